"""The model of a search: an encoder and the head that was trained on its features.

All query vectors are computed here, for the command line, services and the calibration; a test
checks that they equal those of evaluation.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn import functional as F

from rau.datasets.captions import Join, query_texts, single_text
from rau.datasets.shape import check_shape
from rau.encoders import encoder as encoders
from rau.errors import UserError
from rau.evaluation import head_record
from rau.evaluation.calibration import FILE, Calibration
from rau.files import digest, digest_file
from rau.models import checkpoint
from rau.models.head import ComposedHead
from rau.pictures import as_rgb

ENCODER = "encoder"
NEUTRAL = 0.5


@dataclass(frozen=True)
class Model:
    """Encoder and head, loaded once; safe to use from any number of threads.

    Attributes:
        joins: whether it was trained on queries with several captions, as in FashionIQ.
        key: identifies the encoder and the head, which determine the vectors.
        folders: the folders that encoder and head were read from.
        weights: digest of the head's weights.
    """

    encoder: encoders.Encoder
    head: ComposedHead
    joins: bool
    key: str
    folders: tuple[Path, Path]
    weights: str

    @classmethod
    def load(
        cls, encoder: Path, head: Path, device: torch.device, trust_remote_code: bool = False
    ) -> Self:
        """Read the folders of an encoder and of a head.

        Args:
            trust_remote_code: as `encoder.trust_remote_code`.

        Raises:
            UserError: if one is missing or damaged, or the head was trained on another encoder.
        """
        composer, record = head_record.read(head, device, "train it again with `dvc repro`")
        loaded = encoders.load_maker(encoder, device, record.features, trust_remote_code)
        weights = digest_file(head / checkpoint.WEIGHTS)
        key = digest([loaded.key, record.features.get("arithmetic"), weights], 32)
        Calibration.beside(head, weights)  # A damaged one is refused before anything is encoded.
        return cls(loaded, composer, record.joins_captions, key, (encoder, head), weights)

    @property
    def calibration(self) -> Calibration | None:
        """That of the head, fitted at its training; None if there were too few queries.

        It is read at every call, as it may be refitted.

        Raises:
            UserError: if it is damaged.
        """
        return Calibration.beside(self.folders[1], self.weights)

    @property
    def features_key(self) -> str:
        """Key of the image features: image tower, preprocessing and compute dtype."""
        return digest([self.encoder.image_key, str(self.encoder.dtype)], 32)

    @property
    def dim(self) -> int:
        """Dimension d of the vectors; for PCME++ it is larger than that of the head."""
        return self.encode_gallery(torch.zeros(1, self.head.config.d_image)).shape[1]

    @property
    def device(self) -> torch.device:
        """Device of the computation."""
        return self.encoder.device

    def copy_to(self, folder: Path) -> None:
        """Write a copy for `open_copy`; its folder can be moved."""
        encoder, head = self.folders
        shutil.copytree(encoder, folder / ENCODER)
        shutil.copy(head / checkpoint.WEIGHTS, folder)
        if (fitted := self.calibration) is not None:
            fitted.write(folder / FILE)

    @classmethod
    def open_copy(cls, folder: Path, device: torch.device, trust_remote_code: bool = False) -> Self:
        """Read a copy written by `copy_to`; arguments and errors as in `load`."""
        return cls.load(folder / ENCODER, folder, device, trust_remote_code)

    def image_feature(self, source: Path | bytes | Image) -> Tensor:
        """Raw image feature (d_image,), on the CPU, of a file, its bytes, or an RGB image.

        Raises:
            UserError: if the image cannot be decoded, or as in `check_shape`.
        """
        image = as_rgb(source)
        check_shape(image, source)
        return self.encoder.encode_images(self.encoder.load_images([image]))[0]

    def encode_gallery(self, features: Tensor) -> Tensor:
        """Unit vectors (N, d) of raw image features (N, d_image)."""
        return F.normalize(self.head.encode_gallery(features.to(self.device))[0].float(), dim=-1)

    def texts(self, captions: Sequence[str], join: Join = "forward") -> list[str]:
        """The texts that `encode_query` encodes for a query's captions."""
        if len(captions) == 1:
            return [single_text(captions[0], self.joins)] * (1 if join == "forward" else 2)
        return query_texts(captions, join)

    def compose(self, references: Tensor, texts: Sequence[str]) -> Tensor:
        """Unit vectors (N, d) of raw image features (N, d_image) composed with N texts."""
        features = self.encoder.encode_texts(texts).to(self.device)
        rows = references.float().to(self.device)
        return F.normalize(self.head.encode_query(rows, features)[0].float(), dim=-1)

    def encode_query(
        self, reference: Tensor, captions: Sequence[str], join: Join = "forward"
    ) -> Tensor:
        """Unit vectors (R, d) of a query, as in evaluation; R is 2 for `separate`, else 1.

        Args:
            reference: raw image feature, (d_image,).
            captions: what should be different, in one or several sentences.
        """
        texts = self.texts(captions, join)
        vectors = self.compose(reference.expand(len(texts), -1), texts)
        return vectors if join == "separate" else F.normalize(vectors.mean(0, True), dim=-1)


@dataclass(frozen=True)
class Query:
    """A query.

    Attributes:
        references: raw image features (d_image,) of any number of references.
        caption: what should be different or, without references, describes the target; may be
            empty.
        without: what the target should not have; may be empty.
        image_weight: weight of the references, in [0, 1]. At 0.5 the query is the head's output,
            at 1 only the references count, and at 0 only the caption.
    """

    references: Sequence[Tensor] = ()
    caption: str = ""
    without: str = ""
    image_weight: float = NEUTRAL

    @property
    def plain(self) -> bool:
        """Whether it is one reference with a caption, as in training and evaluation."""
        composed = bool(self.caption) and not self.without and self.image_weight == NEUTRAL
        return composed and len(self.references) == 1


def query_vector(model: Model, query: Query, centre: Tensor) -> Tensor:
    """The unit vector (d,) of a query.

    The head is only trained on one image with a caption. A query without a caption therefore uses
    the gallery vector of its reference, and a caption without a reference is composed with
    `centre`, the mean feature of the gallery, as a neutral reference. Several references are
    replaced by their mean feature. For `without`, the change that composing it with the reference
    makes to the reference's vector is subtracted.

    Raises:
        UserError: if the query has neither a reference nor a caption.
    """
    if not query.references and not query.caption:
        raise UserError("the query is empty; give an image, a caption or both")
    given = bool(query.references)
    reference = torch.stack(list(query.references)).float().mean(0) if given else centre.float()

    def image() -> Tensor:
        return model.encode_gallery(reference[None])[0]

    if not query.caption:
        found = image()
    else:
        found = model.encode_query(reference, [query.caption])[0]
        if given and query.image_weight > NEUTRAL:
            found = torch.lerp(found, image(), 2 * query.image_weight - 1)
        elif given and query.image_weight < NEUTRAL:
            words = model.encode_query(centre, [query.caption])[0]
            found = torch.lerp(words, found, 2 * query.image_weight)
    if query.without:
        found = found - NEUTRAL * (model.encode_query(reference, [query.without])[0] - image())
    return F.normalize(found, dim=-1)
