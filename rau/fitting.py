"""One trained head from parameters, features and queries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rau import alignment, methods, selection
from rau.evaluation import FeatureSet, Task
from rau.head import ComposedHead, HeadConfig
from rau.params import Params, TrainParams
from rau.training import Metrics, Progress, Trainer, TrainQueries
from rau.trainset import TrainSet, divide, holdout_tasks, train_queries


@dataclass(frozen=True)
class Prepared:
    """What all heads of one seed share: the split and what was chosen on the holdout before.

    Attributes:
        tasks: the holdout with the reference kept and captions joined forward.
        text_map: the baselines' ridge map; None in a shared space.
        weights: the weighted sum's, by `selection.weight_key`.
    """

    split: TrainSet
    rows: TrainQueries
    tasks: list[Task]
    text_map: Tensor | None
    weights: selection.Weights


@dataclass(frozen=True)
class Fitted:
    """A head with all that was chosen on the holdout."""

    head: ComposedHead
    progress: Progress
    text_map: Tensor | None
    extra: dict[str, Any]


def prepare(
    train: TrainParams,
    features: FeatureSet,
    queries: Sequence[Mapping[str, Any]],
    choices: Sequence[selection.Choice] = selection.ALL_CHOICES,
) -> Prepared:
    """Carve the holdout and choose the baselines' weights on it.

    Args:
        train: its seed, holdout and select.
        choices: ways to treat reference and captions that a weight is chosen for.

    Raises:
        UserError: too few queries, a metric without truth.
    """
    split = divide(queries, features, train.holdout, train.seed)
    rows = train_queries(split.train, features)
    tasks = holdout_tasks(split.holdout, features, "forward", False)
    text_map = selection.fit_text_map(rows, tasks, features, train.select)
    weights = selection.choose_weights(split.holdout, features, train.select, text_map, choices)
    return Prepared(split, rows, tasks, text_map, weights)


def fit(
    params: Params,
    features: FeatureSet,
    prepared: Prepared,
    state: Path | None,
    quiet: bool = False,
) -> Fitted:
    """Train the head that `head.name` asks for and keep the best epoch.

    Epochs are compared on the holdout with the reference kept and captions joined forward. `state`
    is where a stopped run goes on from; whoever has written the head somewhere may remove it.

    Raises:
        NotFinite: when the loss is not.
        UserError: a metric without truth.
    """
    params = methods.canonical(params)
    train = params.train
    config = HeadConfig.from_params(
        params.head,
        params.ua,
        train,
        d_image=features.images.matrix.shape[1],
        d_text=features.texts.matrix.shape[1],
        shared_space=prepared.text_map is None,
        text_weight=prepared.weights[selection.weight_key(*selection.TRAINED_FOR)],
    )

    def validate(head: ComposedHead) -> Metrics:
        values = selection.score(prepared.tasks, head, features)
        selection.pick(values, train.select)
        return values

    trainer = Trainer(config, train, params.ua, features, prepared.rows, validate)
    head, progress = trainer.run(state, quiet)
    split = prepared.split
    extra = {
        "features": features.images.metadata,
        "select": train.select,
        "best_epoch": progress.best_epoch,
        "best_value": progress.best_value,
        "text_weights": prepared.weights,
        "alignment": alignment.measure(head, prepared.tasks, features),
        "threads": torch.get_num_threads(),
        "queries": {
            "train": len(split.train),
            "holdout": len(split.holdout),
            "dropped": split.dropped,
            "unusable": split.unusable,
        },
    }
    return Fitted(head, progress, prepared.text_map, extra)
