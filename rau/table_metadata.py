"""What the metadata of tables say of a run beside their rows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from rau.params import BUILT_IN_ENCODER

# In the metadata of text features: how many texts were cut, of how many; absent where none was.
CUT_TEXTS = "cut_texts"


def cautions(features: Mapping[str, str], on_garments: bool) -> list[str]:
    """What a reader of results must know of their features, from their tables' metadata.

    Args:
        on_garments: whether the data set is the built-in one.
    """
    found = []
    if CUT_TEXTS in features:
        found.append(
            f"{features[CUT_TEXTS]} texts are longer than the encoder's context and are cut: of "
            "two joined captions the second loses its end"
        )
    if features.get("encoder") == BUILT_IN_ENCODER and not on_garments:
        found.append(
            f"the encoder {BUILT_IN_ENCODER} was pretrained on drawn garments alone; for photos "
            "set encoder.name and encoder.pretrained to one that knows them (docs/datasets.md)"
        )
    return found


@dataclass(frozen=True)
class RankingsMetadata:
    """What the metadata of a rankings file say of its run; None where they do not.

    Attributes:
        method: name of the method that the run is about.
        dataset: name of the data set.
        copy: what kind of copy of it.
        encoder, coverage: in words.
        unusable: how queries without their images count, as `evaluate.unusable`.
    """

    method: str | None = None
    dataset: str | None = None
    copy: str | None = None
    encoder: str | None = None
    coverage: str | None = None
    unusable: str | None = None

    @classmethod
    def of(cls, metadata: Mapping[bytes, bytes]) -> Self:
        """Read them.

        Raises:
            ValueError: when they are no text, or the data set is no JSON object.
        """
        own = ("method", "encoder", "coverage", "unusable")
        found = {k: metadata[k.encode()].decode() for k in own if k.encode() in metadata}
        data = json.loads(metadata.get(b"dataset", b"{}"))
        if not isinstance(data, dict):
            raise ValueError("dataset is no JSON object")
        found |= {k: str(data[w]) for k, w in (("dataset", "name"), ("copy", "copy")) if w in data}
        return cls(**found)
