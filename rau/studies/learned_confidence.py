"""Confidence that is learned: models of hits, fitted on the holdouts and asked about val.

Every seed holds out other queries, and its head was not trained on them. Together the holdouts of
all seeds are queries whose answers come from heads that never saw them (cross-fitting).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]
# Strength of the penalty (1 / C), and of the boosted trees.
PENALTY = 20.0
TREES = {"max_iter": 80, "learning_rate": 0.06, "max_leaf_nodes": 8, "min_samples_leaf": 40}
SEED = 0


def inputs(one: Arrays, features: bool, categories: int) -> Floats:
    """What a model reads of Q queries: the free predictors, the category, perhaps the features.

    Args:
        one: arrays of `evidence.evidence` without the split.
        features: with the principal components of text and reference.
        categories: how many there are.
    """
    category = np.asarray(one["category"])
    hot = (category[:, None] == np.arange(categories)).astype(np.float64)
    parts = [np.asarray(one["free"], np.float64), hot]
    return np.hstack([*parts, one["inputs"]] if features else parts)


def categories(sides: Sequence[Arrays]) -> int:
    """How many categories queries are of."""
    return 1 + max(int(one["category"].max()) for one in sides)


def predict(
    held: Sequence[Arrays], val: Sequence[Arrays], label: Sequence[Floats]
) -> dict[str, list[Floats]]:
    """Scores of val's queries by model, for each seed; labels (Q,) of the holdouts' queries."""
    hits, count = np.concatenate(label), categories([*held, *val])
    found: dict[str, list[Floats]] = {}
    if hits.min() == hits.max():
        return found
    for name, features, trees in (
        ("logistic, free", False, False),
        ("logistic, with features", True, False),
        ("boosted trees, with features", True, True),
    ):
        model = _model(trees)
        model.fit(np.concatenate([inputs(one, features, count) for one in held]), hits)
        found[name] = [model.predict_proba(inputs(one, features, count))[:, 1] for one in val]
    return found


def answers(held: Sequence[Arrays], val: Sequence[Arrays]) -> list[Floats] | None:
    """Minus the predicted logarithm of the number of true answers; None where it is not known."""
    from sklearn.linear_model import Ridge

    known = np.concatenate([np.asarray(one["answers"], np.float64) for one in held])
    if np.isnan(known).any():
        return None
    model = Ridge(PENALTY).fit(np.concatenate([one["inputs"] for one in held]), np.log1p(known))
    return [-np.asarray(model.predict(one["inputs"]), np.float64) for one in val]


def _model(trees: bool) -> Any:
    """A classifier of scikit-learn."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if trees:
        return HistGradientBoostingClassifier(random_state=SEED, **TREES)
    return make_pipeline(StandardScaler(), LogisticRegression(C=1 / PENALTY, max_iter=500))
