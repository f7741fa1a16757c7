"""The interface of image-and-text models for features and search, whichever library runs them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast, get_args

import torch
from PIL import Image
from torch import Tensor

from rau.encoders.forward import Precision
from rau.encoders.label import read_label
from rau.errors import UserError
from rau.params import SENTENCE_TRANSFORMERS

AGAIN = "run `python -m pipeline.features` again"


class Encoder(Protocol):
    """A frozen model with an image and a text tower; `clip.Encoder` or `sentence.Encoder`.

    A batch is loaded, which is work for threads, and then encoded; what is loaded concerns only
    the encoder itself. Features are raw, float32 on the CPU.
    """

    @property
    def name(self) -> str:
        """`encoder.name`."""
        ...

    @property
    def weights(self) -> str:
        """Where the weights are from."""
        ...

    @property
    def preprocessing(self) -> str:
        """From pictures to the model's input, in words."""
        ...

    @property
    def key(self) -> str:
        """Identifies its features: it changes with weights, configuration or preprocessing."""
        ...

    @property
    def image_key(self) -> str:
        """Identifies the features of images."""
        ...

    @property
    def text_key(self) -> str:
        """Identifies the features of texts."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """What its matrix products are computed in."""
        ...

    @property
    def parallel(self) -> bool:
        """Whether several threads may encode at the same time, each on a core of its own."""
        ...

    def load_images(self, sources: Sequence[Path | bytes | Image.Image]) -> Any:
        """Decode pictures, those that are not RGB pictures yet.

        Raises:
            UserError: when `rau.pictures.open_rgb` does.
        """
        ...

    def encode_images(self, images: Any) -> Tensor:
        """Features (B, d_image) of what `load_images` gave."""
        ...

    def by_length(self, texts: Sequence[str]) -> tuple[list[int], Callable[[slice], Any]]:
        """The order in which texts of similar length follow each other, the longest first, as row
        numbers; and what loads a slice of it."""
        ...

    def encode_tokens(self, tokens: Any) -> Tensor:
        """Features (B, d_text) of what `by_length` loads."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Features (B, d_text) of texts."""
        ...

    def count_cut(self, texts: Sequence[str]) -> int:
        """How many of the texts are longer than the context, so that their end is left out."""
        ...

    @property
    def encode_pairs(self) -> Callable[[Any, Sequence[str]], Tensor] | None:
        """Gives features (B, d_image) of what `load_images` gave, each picture in one pass with
        its text; None where the model has no such pass."""
        ...


def load(
    folder: Path,
    device: torch.device,
    precision: Precision = "auto",
    trust_remote_code: bool = False,
) -> Encoder:
    """Load an encoder's folder of either kind, without network.

    Args:
        trust_remote_code: as `encoder.trust_remote_code`.

    Raises:
        UserError: when it is missing, or any of its files differs from what was written.
    """
    if read_label(folder).name.startswith(SENTENCE_TRANSFORMERS):
        from rau.encoders import sentence

        return sentence.load(folder, device, precision, trust_remote_code)
    from rau.encoders import clip

    return clip.load(folder, device, precision)


def load_maker(
    folder: Path,
    device: torch.device,
    metadata: Mapping[str, str],
    trust_remote_code: bool = False,
) -> Encoder:
    """Load the encoder that made a feature table, to compute as it did, on whatever device.

    Raises:
        UserError: as `load` does, and when the features were made by another encoder.
    """
    arithmetic = metadata.get("arithmetic", "auto")
    if arithmetic not in get_args(Precision):
        raise UserError(f"the features' compute dtype {arithmetic!r} is unknown; {AGAIN}")
    encoder = load(folder, device, cast(Precision, arithmetic), trust_remote_code)
    if encoder.key != metadata.get("key"):
        raise UserError(
            f"the features were made by another encoder (key {metadata.get('key')}, now "
            f"{encoder.key}); {AGAIN}"
        )
    return encoder
