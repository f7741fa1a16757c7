"""A head trained on features in memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd
from pydantic import ValidationError
from torch import Tensor

from rau.api.frames import Rows, query_rows
from rau.errors import UserError
from rau.models import checkpoint
from rau.models.head import ComposedHead
from rau.params import Params, first_error
from rau.retrieval.feature_set import FeatureSet
from rau.studies.plan import changed
from rau.training import fit as training

# What `fit` reads; of `train`, not what says where and from what a stage trains.
SECTIONS = ("head", "ua", "train")
OTHERS = ("train.head", "train.start", "train.device", "train.threads")


@dataclass(frozen=True)
class Head:
    """A trained head; `rau.evaluate` takes it as a method.

    Attributes:
        module: the `nn.Module`, in evaluation mode.
        record: how it was trained and chosen, as JSON.
        history: a row an epoch; empty for a head that was read from a folder.
    """

    module: ComposedHead
    record: dict[str, Any]
    history: pd.DataFrame

    def encode_query(self, reference: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Raw features (B, d_image) and (B, d_text) to vectors (B, d) and uncertainties (B,)."""
        return self.module.encode_query(reference, text)

    def encode_gallery(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Raw features (B, d_image) to vectors (B, d) and uncertainties (B,)."""
        return self.module.encode_gallery(image)

    def save(self, folder: str | Path) -> None:
        """Write `head.safetensors`, as the stage `train` does.

        Raises:
            UserError: when the folder cannot be written.
        """
        checkpoint.save(Path(folder), self.module, self.record)

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> Self:
        """Read what `save` or the stage `train` wrote.

        Raises:
            UserError: when it is missing or damaged.
        """
        module, record = checkpoint.load(Path(folder), device)
        return cls(module, record, pd.DataFrame())


def fit(
    features: FeatureSet,
    queries: Rows,
    params: Mapping[str, Any] | None = None,
    *,
    split: str = "train",
    progress: bool = True,
) -> Head:
    """Train a head on features and keep the epoch that is best on a holdout of the queries.

    Args:
        features: result of `feature_set`.
        queries: as for `rau.evaluate`.
        params: values of `head`, `ua` and `train` that differ from those of `params.yaml`, by
            dotted name, as `head.name`, `ua.theta` and `train.epochs`.
        split: the queries to train on, where `queries` has splits.
        progress: show a bar.

    Raises:
        UserError: when a parameter, a row or a feature is wrong, or there are too few queries.

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
    """The library's defaults with the values of dotted names replaced."""
    defaults = Params()
    known = defaults.model_dump()
    for name in changes:
        section, _, key = name.partition(".")
        if not isinstance(known.get(section), dict) or key not in known[section]:
            raise UserError(f"params: there is no {name}; docs/parameters.md lists all")
        if section not in SECTIONS or name in OTHERS:
            raise UserError(
                f"params: {name} has no effect here; give those of head, ua and train but for "
                f"{', '.join(OTHERS)}"
            )
    try:
        return changed(defaults, changes)
    except ValidationError as error:
        key, message = first_error(error)
        raise UserError(f"params: {key}: {message}") from error
