"""Confidence that is learned: models of hits, fitted on the holdouts and asked about val.

Every seed holds out other queries, and its head was not trained on them. Together the holdouts of
all seeds are queries whose answers come from heads that never saw them (cross-fitting); a model's
penalty is the one with the least log loss on a seed's holdout when fitted on those of the others.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]
# Inverse penalties of the weights of standardised inputs, the strongest first.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
RIDGE = 20.0
MODELS = {"logistic, free": False, "logistic, with features": True}


def categories(sides: Sequence[Arrays]) -> int:
    """How many categories queries are of."""
    return 1 + max(int(one["category"].max()) for one in sides)


def inputs(one: Arrays, features: bool, count: int) -> Floats:
    """What a model reads of Q queries: the free predictors, the category, perhaps the features.

    Args:
        one: arrays of `evidence.evidence` without the split.
        features: with the principal components of text and reference.
        count: number of categories.
    """
    hot = (np.asarray(one["category"])[:, None] == np.arange(count)).astype(np.float64)
    parts = [np.asarray(one["free"], np.float64), hot]
    return np.hstack([*parts, one["inputs"]] if features else parts)


def predict(
    held: Sequence[Arrays], val: Sequence[Arrays], label: Sequence[Floats]
) -> dict[str, list[Floats]]:
    """Probabilities of hits of val's queries by model, for each seed.

    Args:
        held, val: arrays of a seed's holdout and of val, one a seed.
        label: hits (Q,) of the holdouts' queries; nothing is learned where all are alike.
    """
    count = categories([*held, *val])
    found = {}
    for name, features in MODELS.items():
        rows = [inputs(one, features, count) for one in held]
        model = _fit(rows, label, _strength(rows, label))
        if model is not None:
            asked = [inputs(one, features, count) for one in val]
            found[name] = [np.asarray(model.predict_proba(own)[:, 1]) for own in asked]
    return found


def _strength(rows: Sequence[Floats], label: Sequence[Floats]) -> float:
    """The inverse penalty with the least log loss on the holdouts left out."""

    def loss(strength: float) -> float:
        losses = []
        for out in range(len(rows)):
            kept = [place for place in range(len(rows)) if place != out]
            model = _fit([rows[p] for p in kept], [label[p] for p in kept], strength)
            if model is not None:
                told = np.clip(model.predict_proba(rows[out])[:, 1], 1e-9, 1 - 1e-9)
                losses.append(np.where(label[out] > 0, -np.log(told), -np.log(1 - told)).mean())
        return float(np.mean(losses)) if losses else 0.0

    return min(STRENGTHS, key=loss)


def _fit(rows: Sequence[Floats], label: Sequence[Floats], strength: float) -> Any:
    """A logistic regression; None without hits or without misses."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    hits = np.concatenate(label) if label else np.zeros(1)
    if hits.min() == hits.max():
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500))
    return model.fit(np.concatenate(rows), hits)


def answers(held: Sequence[Arrays], val: Sequence[Arrays]) -> list[Floats] | None:
    """Minus the predicted logarithm of the number of true answers; None where it is not known."""
    from sklearn.linear_model import Ridge

    known = np.concatenate([np.asarray(one["answers"], np.float64) for one in held])
    if np.isnan(known).any():
        return None
    model = Ridge(RIDGE).fit(np.concatenate([one["inputs"] for one in held]), np.log1p(known))
    return [-np.asarray(model.predict(one["inputs"]), np.float64) for one in val]
