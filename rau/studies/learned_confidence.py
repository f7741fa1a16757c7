"""Learned confidence: models that predict hits, fitted on the holdouts and applied to val.

The holdouts of all seeds together are queries ranked by heads that were not trained on them. The
penalty of a model is chosen by cross-validation over queries: one that several seeds hold out is
left out for all of them at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rau.studies import evidential

Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]
# Maps inputs (Q, D) to probabilities of hits (Q,).
Model = Callable[[Floats], Floats]
# Inverse penalties on the weights of standardised inputs, strongest penalty first.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# Weight decay of the evidential network, strongest first.
DECAYS = (10.0, 1.0, 0.1)
RIDGE = 20.0
FOLDS = 5
MODELS = {"logistic, free": False, "logistic, with features": True}
# The probability from the evidential network, and its total evidence.
EVIDENTIAL = ("evidential, probability", "evidential, evidence")


def categories(sides: Sequence[Arrays]) -> int:
    """Number of categories of the queries."""
    return 1 + max(int(one["category"].max()) for one in sides)


def inputs(one: Arrays, features: bool, count: int) -> Floats:
    """Model inputs for Q queries: free predictors, category and, optionally, features.

    Args:
        one: arrays of `evidence.evidence` without the split.
        features: whether to include the principal components of text and reference.
        count: number of categories.
    """
    hot = (np.asarray(one["category"])[:, None] == np.arange(count)).astype(np.float64)
    parts = [np.asarray(one["free"], np.float64), hot]
    return np.hstack([*parts, one["inputs"]] if features else parts)


def predict(
    held: Sequence[Arrays], val: Sequence[Arrays], label: Sequence[Floats]
) -> dict[str, list[Floats]]:
    """Probabilities of hits for val's queries, by model and seed.

    Args:
        held, val: arrays of the holdout and of val, one per seed.
        label: hits (Q,) of the holdouts' queries; if all are equal, no model is fitted.
    """
    count, found = categories([*held, *val]), {}
    for name, features in MODELS.items():
        rows = _Rows.of(held, label, features, count)
        model = _logistic(rows.inputs, rows.hits, _best(_logistic, STRENGTHS, rows))
        if model is not None:
            found[name] = [model(inputs(one, features, count)) for one in val]
    return found


def evidence(
    held: Sequence[Arrays], val: Sequence[Arrays], label: Sequence[Floats]
) -> dict[str, list[Floats]]:
    """The two values of `EVIDENTIAL` for val's queries, by seed; arguments as in `predict`."""
    count = categories([*held, *val])
    rows = _Rows.of(held, label, True, count)
    model = _evidential(rows.inputs, rows.hits, _best(_hits, DECAYS, rows))
    if model is None:
        return {}
    told = [model(inputs(one, True, count)) for one in val]
    return {name: [own[place] for own in told] for place, name in enumerate(EVIDENTIAL)}


@dataclass(frozen=True)
class _Rows:
    """The N rows of the holdouts of all seeds.

    Attributes:
        inputs: (N, D).
        hits: (N,).
        fold: of the row's query, (N,): the same for all of its rows.
    """

    inputs: Floats
    hits: Floats
    fold: NDArray[np.int64]

    @classmethod
    def of(
        cls, held: Sequence[Arrays], label: Sequence[Floats], features: bool, count: int
    ) -> Self:
        """Stack the holdouts; arguments as in `inputs` and `predict`."""
        return cls(
            np.concatenate([inputs(one, features, count) for one in held]),
            np.concatenate(label),
            np.concatenate([one["query"] for one in held]) % FOLDS,
        )


def _best(
    fit: Callable[[Floats, Floats, float], Model | None], options: Sequence[float], rows: _Rows
) -> float:
    """The option with the lowest log loss on left-out queries."""

    def loss(option: float) -> float:
        losses = []
        for out in range(FOLDS):
            held = rows.fold == out
            model = fit(rows.inputs[~held], rows.hits[~held], option)
            if model is not None and held.any():
                told = np.clip(model(rows.inputs[held]), 1e-9, 1 - 1e-9)
                lost = np.where(rows.hits[held] > 0, -np.log(told), -np.log(1 - told))
                losses.append(lost.mean())
        return float(np.mean(losses)) if losses else 0.0

    return min(options, key=loss)


def _logistic(rows: Floats, hits: Floats, strength: float) -> Model | None:
    """Fit a logistic regression; None without hits or without misses."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if _alike(hits):
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500))
    model.fit(rows, hits)
    return lambda own: np.asarray(model.predict_proba(own)[:, 1])


def _evidential(rows: Floats, hits: Floats, decay: float) -> evidential.Evidential | None:
    """Fit an evidential network; None without hits or without misses."""
    return None if _alike(hits) else evidential.fit(rows, hits, decay)


def _hits(rows: Floats, hits: Floats, decay: float) -> Model | None:
    """Fit an evidential network and return only its probabilities."""
    model = _evidential(rows, hits, decay)
    return None if model is None else lambda own: model(own)[0]


def _alike(hits: Floats) -> bool:
    """Whether there are no hits, or no misses."""
    return len(hits) == 0 or bool(hits.min() == hits.max())


def answers(held: Sequence[Arrays], val: Sequence[Arrays]) -> list[Floats] | None:
    """Negative predicted log(1 + number of correct answers); None if the number is unknown."""
    from sklearn.linear_model import Ridge

    known = np.concatenate([np.asarray(one["answers"], np.float64) for one in held])
    if np.isnan(known).any():
        return None
    model = Ridge(RIDGE).fit(np.concatenate([one["inputs"] for one in held]), np.log1p(known))
    return [-np.asarray(model.predict(one["inputs"]), np.float64) for one in val]
