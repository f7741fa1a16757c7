"""What is chosen on the holdout: the epoch, the baselines' weights, the ridge penalty."""

from collections.abc import Sequence
from itertools import product
from typing import get_args

from torch import Tensor

from rau.datasets.captions import Join
from rau.errors import UserError
from rau.models.baselines import RIDGES, WeightedSum, best_weight, fit_ridge
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.metrics import per_query, summarise
from rau.retrieval.protocols import Reference, weight_key
from rau.retrieval.tasks import Method, Task, run_all
from rau.training.triplets import TrainSet, Triplets, holdout_tasks

TOP_K = 1
Weights = dict[str, float]


def score(tasks: Sequence[Task], method: Method, features: FeatureSet) -> dict[str, float]:
    """Every metric of a method on the holdout, the mean over categories."""
    ranked = run_all(tasks, method, features, TOP_K)
    by_category = {
        task.category: per_query(one.ranking, task.usable)
        for task, one in zip(tasks, ranked, strict=True)
    }
    return summarise(by_category)["mean"]


def pick(values: dict[str, float], metric: str) -> float:
    """One metric of the holdout.

    Raises:
        UserError: when it needs relevance that the train queries do not have.
    """
    if metric not in values:
        raise UserError(f"train.select={metric} needs known relevance; use mean_of_r10_r50")
    return values[metric]


Choice = tuple[Reference, Join]
# Epochs are compared this way, and the fusion starts from this way's weight.
TRAINED_FOR: Choice = ("kept", "forward")
ALL_CHOICES: tuple[Choice, ...] = tuple(product(get_args(Reference), get_args(Join)))


def choose_weights(
    split: TrainSet,
    features: FeatureSet,
    metric: str,
    text_map: Tensor | None,
    choices: Sequence[Choice] = ALL_CHOICES,
) -> Weights:
    """The weighted sum's weight for each way to treat reference and captions."""
    weights = {}
    for reference, join in choices:
        tasks = holdout_tasks(split, features, join, reference == "removed")

        def value(method: WeightedSum, tasks: Sequence[Task] = tasks) -> float:
            return pick(score(tasks, method, features), metric)

        weights[weight_key(reference, join)] = best_weight(value, text_map)
    return weights


def fit_text_map(
    train: Triplets, tasks: Sequence[Task], features: FeatureSet, metric: str
) -> Tensor | None:
    """The ridge map from text to target, its penalty chosen on the holdout; None where the two
    features share a space."""
    if features.images.shared_space:
        return None
    text = features.text_rows(train.texts[:, 0])
    target = features.image_rows(train.target)
    maps = [fit_ridge(text, target, ridge) for ridge in RIDGES]
    return max(maps, key=lambda m: pick(score(tasks, WeightedSum(1.0, m), features), metric))
