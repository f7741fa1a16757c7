"""Learned confidence: models that predict hits, fitted on the holdouts and applied to val.

Every seed holds out different queries, which its head was not trained on. The holdouts of all
seeds together are queries ranked by heads that never saw them (cross-fitting). The penalty of a
model minimises the log loss on a seed's holdout when fitted on those of the other seeds.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

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
    count = categories([*held, *val])
    found = {}
    for name, features in MODELS.items():
        rows = [inputs(one, features, count) for one in held]
        model = _logistic(rows, label, _best(_logistic, STRENGTHS, rows, label))
        if model is not None:
            found[name] = [model(inputs(one, features, count)) for one in val]
    return found


def evidence(
    held: Sequence[Arrays], val: Sequence[Arrays], label: Sequence[Floats]
) -> dict[str, list[Floats]]:
    """The two values of `EVIDENTIAL` for val's queries, by seed; arguments as in `predict`."""
    count = categories([*held, *val])
    rows = [inputs(one, True, count) for one in held]
    model = _evidential(rows, label, _best(_hits, DECAYS, rows, label))
    if model is None:
        return {}
    told = [model(inputs(one, True, count)) for one in val]
    return {name: [own[place] for own in told] for place, name in enumerate(EVIDENTIAL)}


def _best(
    fit: Callable[[Sequence[Floats], Sequence[Floats], float], Model | None],
    options: Sequence[float],
    rows: Sequence[Floats],
    label: Sequence[Floats],
) -> float:
    """The option with the lowest log loss on the left-out holdouts."""

    def loss(option: float) -> float:
        losses = []
        for out in range(len(rows)):
            kept = [place for place in range(len(rows)) if place != out]
            model = fit([rows[p] for p in kept], [label[p] for p in kept], option)
            if model is not None:
                told = np.clip(model(rows[out]), 1e-9, 1 - 1e-9)
                losses.append(np.where(label[out] > 0, -np.log(told), -np.log(1 - told)).mean())
        return float(np.mean(losses)) if losses else 0.0

    return min(options, key=loss)


def _logistic(rows: Sequence[Floats], label: Sequence[Floats], strength: float) -> Model | None:
    """Fit a logistic regression; None without hits or without misses."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    hits = _both(label)
    if hits is None:
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500))
    model.fit(np.concatenate(rows), hits)
    return lambda own: np.asarray(model.predict_proba(own)[:, 1])


def _evidential(
    rows: Sequence[Floats], label: Sequence[Floats], decay: float
) -> evidential.Evidential | None:
    """Fit an evidential network; None without hits or without misses."""
    hits = _both(label)
    return None if hits is None else evidential.fit(np.concatenate(rows), hits, decay)


def _hits(rows: Sequence[Floats], label: Sequence[Floats], decay: float) -> Model | None:
    """Fit an evidential network and return only its probabilities."""
    model = _evidential(rows, label, decay)
    return None if model is None else lambda own: model(own)[0]


def _both(label: Sequence[Floats]) -> Floats | None:
    """All labels; None if all are equal."""
    hits = np.concatenate(label) if label else np.zeros(1)
    return None if hits.min() == hits.max() else hits


def answers(held: Sequence[Arrays], val: Sequence[Arrays]) -> list[Floats] | None:
    """Negative predicted log(1 + number of correct answers); None if the number is unknown."""
    from sklearn.linear_model import Ridge

    known = np.concatenate([np.asarray(one["answers"], np.float64) for one in held])
    if np.isnan(known).any():
        return None
    model = Ridge(RIDGE).fit(np.concatenate([one["inputs"] for one in held]), np.log1p(known))
    return [-np.asarray(model.predict(one["inputs"]), np.float64) for one in val]
