"""One trained head from parameters, features and queries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rau import selection
from rau.evaluation import FeatureSet
from rau.head import ComposedHead, HeadConfig
from rau.params import Params
from rau.training import Metrics, Progress, Trainer
from rau.trainset import divide, holdout_tasks, train_queries


@dataclass(frozen=True)
class Fitted:
    """A head with all that was chosen on the holdout."""

    head: ComposedHead
    progress: Progress
    text_map: Tensor | None
    extra: dict[str, Any]


def fit(
    params: Params, features: FeatureSet, queries: Sequence[Mapping[str, Any]], state: Path
) -> Fitted:
    """Carve the holdout, choose the baselines' weights, train, keep the best epoch.

    Epochs are compared with the reference kept and captions joined forward. `state` is where a
    stopped run goes on from; whoever has written the head somewhere may remove it.

    Raises:
        UserError: too few queries, a metric without truth, a loss that is not finite.
    """
    train = params.train
    split = divide(queries, features, train.holdout, train.seed)
    print(split.summary())
    rows = train_queries(split.train, features)
    tasks = holdout_tasks(split.holdout, features, "forward", False)
    text_map = selection.fit_text_map(rows, tasks, features, train.select)
    weights = selection.choose_weights(split.holdout, features, train.select, text_map)
    config = HeadConfig.from_params(
        params.head,
        params.ua,
        train,
        d_image=features.images.matrix.shape[1],
        d_text=features.texts.matrix.shape[1],
        shared_space=text_map is None,
        text_weight=weights[selection.weight_key("kept", "forward")],
    )

    def validate(head: ComposedHead) -> Metrics:
        values = selection.score(tasks, head, features)
        selection.pick(values, train.select)
        return values

    trainer = Trainer(config, train, params.ua, features, rows, validate)
    head, progress = trainer.run(state)
    extra = {
        "features": features.images.metadata,
        "select": train.select,
        "best_epoch": progress.best_epoch,
        "best_value": progress.best_value,
        "text_weights": weights,
        "threads": torch.get_num_threads(),
        "queries": {
            "train": len(split.train),
            "holdout": len(split.holdout),
            "dropped": split.dropped,
            "unusable": split.unusable,
        },
    }
    return Fitted(head, progress, text_map, extra)
