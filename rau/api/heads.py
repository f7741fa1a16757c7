"""Train a head on features in memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd
from pydantic import ValidationError
from torch import Tensor

from rau import devices
from rau.api.frames import Rows, query_rows
from rau.errors import UserError
from rau.models import checkpoint
from rau.models.head import ComposedHead
from rau.params import Params, first_error
from rau.retrieval.feature_set import FeatureSet
from rau.studies.plan import changed
from rau.training import fit as training

# Sections that `fit` reads, and parameters of `train` that only the stage reads.
SECTIONS = ("head", "ua", "train")
OTHERS = ("train.head", "train.start", "train.device", "train.threads")


@dataclass(frozen=True)
class Head:
    """A trained head, which `rau.evaluate` accepts as a method.

    Attributes:
        module: the `nn.Module`, in evaluation mode.
        record: how it was trained and selected, as JSON.
        history: one row per epoch; empty if the head was loaded from a folder.
    """

    module: ComposedHead
    record: dict[str, Any]
    history: pd.DataFrame

    def encode_query(self, reference: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Map raw features (B, d_image), (B, d_text) to vectors (B, d) and uncertainties (B,)."""
        return self.module.encode_query(reference, text)

    def encode_gallery(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map raw features (B, d_image) to vectors (B, d) and uncertainties (B,)."""
        return self.module.encode_gallery(image)

    def save(self, folder: str | Path) -> None:
        """Write `head.safetensors`, like the stage `train`.

        Raises:
            UserError: when the folder is not writable.
        """
        checkpoint.save(Path(folder), self.module, self.record)

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> Self:
        """Read a head that `save` or the stage `train` wrote.

        Args:
            device: `auto`, `cpu`, `cuda` or `mps`.

        Raises:
            UserError: when it is missing or damaged, or this machine does not have the device.
        """
        module, record = checkpoint.load(Path(folder), devices.choose(device, "device"))
        return cls(module, record, pd.DataFrame())


def fit(
    features: FeatureSet,
    queries: Rows,
    params: Mapping[str, Any] | None = None,
    *,
    split: str = "train",
    progress: bool = True,
) -> Head:
    """Train a head on features and keep the epoch with the best score on held-out queries.

    Args:
        features: result of `feature_set`.
        queries: as for `rau.evaluate`.
        params: values in the sections `head`, `ua` and `train` that differ from the defaults, by
            dotted name such as `head.name`, `ua.theta` and `train.epochs`.
        split: split to train on, if `queries` has splits.
        progress: show a progress bar.

    Raises:
        UserError: when a parameter, a row or a feature is invalid, or there are too few queries.

    >>> head = rau.fit(features, queries, {"head.name": "deterministic", "train.epochs": 2},
    ...                progress=False)
    >>> head.record["best_epoch"] in (0, 1, 2)
    True
    """
    own = _params(params or {})
    rows = query_rows(queries, split, "train")
    prepared = training.prepare(own.train, features, rows)
    fitted = training.fit(own, features, prepared, None, quiet=not progress)
    history = pd.DataFrame(fitted.training.history)
    return Head(fitted.head, {**fitted.extra, "dataset": None}, history)


def _params(changes: Mapping[str, Any]) -> Params:
    """The library's defaults, with values replaced by dotted name."""
    defaults = Params()
    known = defaults.model_dump()
    for name in changes:
        section, _, key = name.partition(".")
        if not isinstance(known.get(section), dict) or key not in known[section]:
            raise UserError(f"params: unknown parameter {name}; see docs/parameters.md")
        if section not in SECTIONS or name in OTHERS:
            raise UserError(
                f"params: {name} has no effect here; give those of head, ua and train except "
                f"{', '.join(OTHERS)}"
            )
    try:
        return changed(defaults, changes)
    except ValidationError as error:
        key, message = first_error(error)
        raise UserError(f"params: {key}: {message}") from error
