"""Information on a run in the metadata of tables."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from rau.params import BUILT_IN_ENCODER

# In the metadata of text features: number of truncated texts, and of all; absent if none was.
CUT_TEXTS = "cut_texts"


def cautions(features: Mapping[str, str], on_garments: bool) -> list[str]:
    """Warnings on the features behind results, from the metadata of their tables.

    Args:
        on_garments: whether the data set is the built-in one.
    """
    found = []
    if CUT_TEXTS in features:
        found.append(
            f"{features[CUT_TEXTS]} texts are longer than the encoder's context and were "
            "truncated: the second of two joined captions loses its end"
        )
    if features.get("encoder") == BUILT_IN_ENCODER and not on_garments:
        found.append(
            f"the encoder {BUILT_IN_ENCODER} was pretrained only on rendered garments; for photos "
            "set encoder.name and encoder.pretrained to a model trained on photos "
            "(docs/datasets.md)"
        )
    return found


@dataclass(frozen=True)
class RankingsMetadata:
    """The metadata of a rankings file on its run; None where missing.

    Attributes:
        method: name of the run's own method.
        dataset: name of the data set.
        copy: the kind of copy of the data set, `official` or `custom`.
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
            ValueError: when they are not text, or the data set is not a JSON object.
        """
        own = ("method", "encoder", "coverage", "unusable")
        found = {k: metadata[k.encode()].decode() for k in own if k.encode() in metadata}
        data = json.loads(metadata.get(b"dataset", b"{}"))
        if not isinstance(data, dict):
            raise ValueError("dataset is not a JSON object")
        found |= {k: str(data[w]) for k, w in (("dataset", "name"), ("copy", "copy")) if w in data}
        return cls(**found)
