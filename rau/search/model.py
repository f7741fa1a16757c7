"""What answers a query: an encoder and the head that was trained on its features.

The one place where a picture and words become the vector that is searched for: the command line,
a service and the calibration ask it, and a test holds it to what evaluation ranks.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from PIL.Image import Image
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from rau.datasets.captions import Join, query_texts, single_text
from rau.encoders import encoder as encoders
from rau.errors import UserError
from rau.evaluation.calibration import FILE, Calibration
from rau.evaluation.run import HeadRecord
from rau.files import digest, digest_file
from rau.models import checkpoint
from rau.models.head import ComposedHead
from rau.params import first_error

ENCODER = "encoder"
NEUTRAL = 0.5


@dataclass(frozen=True)
class Model:
    """Encoder and head, loaded once; any number of threads may ask it.

    Attributes:
        joins: whether the captions that it was trained on come in several, as FashionIQ's.
        key: of both, of which vectors are made.
        calibration: of the head, as it was trained; None where it had too few queries.
        folders: where they were read.
    """

    encoder: encoders.Encoder
    head: ComposedHead
    joins: bool
    key: str
    folders: tuple[Path, Path]
    calibration: Calibration | None

    @classmethod
    def load(
        cls, encoder: Path, head: Path, device: torch.device, trust_remote_code: bool = False
    ) -> Self:
        """Read an encoder's folder and a head's.

        Args:
            trust_remote_code: as `encoder.trust_remote_code`.

        Raises:
            UserError: when one is missing or damaged, or the head was trained on another encoder.
        """
        composer, extra = checkpoint.load(head, device)
        try:
            record = HeadRecord.model_validate(extra)
        except ValidationError as error:
            key, message = first_error(error)
            remedy = "train it again with `dvc repro`"
            raise UserError(f"{head}: the head's {key}: {message}; {remedy}") from error
        loaded = encoders.load_maker(encoder, device, record.features, trust_remote_code)
        weights = digest_file(head / checkpoint.WEIGHTS)
        key = digest([loaded.key, record.features.get("arithmetic"), weights], 32)
        fitted = Calibration.beside(head, weights)
        return cls(loaded, composer, record.joins_captions, key, (encoder, head), fitted)

    @property
    def features_key(self) -> str:
        """Of the features of pictures: image tower, preprocessing and arithmetic."""
        return digest([self.encoder.image_key, str(self.encoder.dtype)], 32)

    @property
    def dim(self) -> int:
        """Width d of the vectors; PCME++'s are wider than its head."""
        return self.encode_gallery(torch.zeros(1, self.head.config.d_image)).shape[1]

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.encoder.device

    def copy_to(self, folder: Path) -> None:
        """Write a copy that `open_copy` reads, wherever the folder is moved."""
        encoder, head = self.folders
        shutil.copytree(encoder, folder / ENCODER)
        shutil.copy(head / checkpoint.WEIGHTS, folder)
        if self.calibration is not None:
            self.calibration.write(folder / FILE)

    @classmethod
    def open_copy(cls, folder: Path, device: torch.device, trust_remote_code: bool = False) -> Self:
        """Read what `copy_to` wrote; arguments and errors as in `load`."""
        return cls.load(folder / ENCODER, folder, device, trust_remote_code)

    def image_feature(self, source: Path | bytes | Image) -> Tensor:
        """Raw image feature (d_image,), on the CPU, of a picture: a file, its bytes, or in RGB.

        Raises:
            UserError: when it cannot be decoded.
        """
        return self.encoder.encode_images(self.encoder.load_images([source]))[0]

    def encode_gallery(self, features: Tensor) -> Tensor:
        """Unit vectors (N, d) of raw image features (N, d_image)."""
        return F.normalize(self.head.encode_gallery(features.to(self.device))[0].float(), dim=-1)

    def texts(self, captions: Sequence[str], join: Join = "forward") -> list[str]:
        """What `encode_query` encodes of a query's captions."""
        if len(captions) == 1:
            return [single_text(captions[0], self.joins)] * (1 if join == "forward" else 2)
        return query_texts(captions, join)

    def compose(self, references: Tensor, texts: Sequence[str]) -> Tensor:
        """Unit vectors (N, d) of raw image features (N, d_image), each with a text of `texts`."""
        features = self.encoder.encode_texts(texts).to(self.device)
        rows = references.float().to(self.device)
        return F.normalize(self.head.encode_query(rows, features)[0].float(), dim=-1)

    def encode_query(
        self, reference: Tensor, captions: Sequence[str], join: Join = "forward"
    ) -> Tensor:
        """Unit vectors of a query as evaluation ranks it: two for `separate`, else one, (R, d).

        Args:
            reference: raw image feature, (d_image,).
            captions: what should be different, in one sentence or several.
        """
        texts = self.texts(captions, join)
        vectors = self.compose(reference.expand(len(texts), -1), texts)
        return vectors if join == "separate" else F.normalize(vectors.mean(0, True), dim=-1)


@dataclass(frozen=True)
class Query:
    """What is searched for.

    Attributes:
        references: raw image features (d_image,) of no picture, one or several.
        caption: what should be different, or with no picture what is wanted; empty for nothing.
        without: what should not be there; empty for nothing.
        image_weight: share of the pictures, in [0, 1]. At 0.5 the query is what the head composes;
            towards 1 it turns to the pictures alone, towards 0 to the caption alone.
    """

    references: Sequence[Tensor] = ()
    caption: str = ""
    without: str = ""
    image_weight: float = NEUTRAL

    @property
    def plain(self) -> bool:
        """Whether it is one picture and a caption, as the head was trained and measured on."""
        composed = bool(self.caption) and not self.without and self.image_weight == NEUTRAL
        return composed and len(self.references) == 1


def query_vector(model: Model, query: Query, centre: Tensor) -> Tensor:
    """The unit vector (d,) that a query searches for.

    The head is trained on a picture with a caption and on nothing else. Pictures alone are
    therefore searched by the vector that they have in the gallery, and words alone are composed
    with `centre`, the mean feature of the gallery's pictures: a reference that says nothing of its
    own. Several pictures are one of their mean feature. `without` is taken away as it would have
    been added: by what composing it with the reference changes in the reference's vector.

    Raises:
        UserError: when nothing is asked for.
    """
    if not query.references and not query.caption:
        raise UserError("nothing to search for: give a picture, a caption or both")
    given = bool(query.references)
    reference = torch.stack(list(query.references)).float().mean(0) if given else centre.float()

    def picture() -> Tensor:
        return model.encode_gallery(reference[None])[0]

    if not query.caption:
        found = picture()
    else:
        found = model.encode_query(reference, [query.caption])[0]
        if given and query.image_weight > NEUTRAL:
            found = torch.lerp(found, picture(), 2 * query.image_weight - 1)
        elif given and query.image_weight < NEUTRAL:
            words = model.encode_query(centre, [query.caption])[0]
            found = torch.lerp(words, found, 2 * query.image_weight)
    if query.without:
        found = found - NEUTRAL * (model.encode_query(reference, [query.without])[0] - picture())
    return F.normalize(found, dim=-1)
