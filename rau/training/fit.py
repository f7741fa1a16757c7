"""Trained heads from parameters, features and queries: one, or several in a stack."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rau.files import digest, digest_sources
from rau.models import methods
from rau.models.head import ComposedHead, HeadConfig
from rau.params import Params, TrainParams
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.protocols import weight_key
from rau.retrieval.tasks import Task
from rau.training import model_selection, pair_distances
from rau.training.sampler import TrainQueries, batch_shape
from rau.training.stacking import STACKABLE
from rau.training.trainer import Metrics, NotFinite, Progress, Run, Trainer
from rau.training.triplets import TrainSet, divide, holdout_tasks, train_queries

# What decides the weights of a head, relative to the library; a test holds it to the imports.
SOURCES = (
    "datasets/captions.py",
    "features/table.py",
    "losses",
    "models",
    "nn",
    "retrieval",
    "lr_schedule.py",
    "training",
)


def code_digest() -> str:
    """Digest of all code that decides a head's weights: a state of older code is not resumed."""
    return digest_sources(Path(__file__).parents[1], SOURCES)


@dataclass(frozen=True)
class Prepared:
    """What all heads of one seed share: the split and what was chosen on the holdout before.

    Attributes:
        tasks: the holdout with the reference kept and captions joined forward.
        text_map: the baselines' ridge map; None in a shared space.
        weights: the weighted sum's, by `protocols.weight_key`.
    """

    split: TrainSet
    rows: TrainQueries
    tasks: list[Task]
    text_map: Tensor | None
    weights: model_selection.Weights


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
    choices: Sequence[model_selection.Choice] = model_selection.ALL_CHOICES,
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
    text_map = model_selection.fit_text_map(rows, tasks, features, train.select)
    weights = model_selection.choose_weights(
        split.holdout, features, train.select, text_map, choices
    )
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
    (found,) = fit_stack([(params, prepared)], features, state, quiet)
    if isinstance(found, NotFinite):
        raise found
    return found


def fit_stack(
    wanted: Sequence[tuple[Params, Prepared]],
    features: FeatureSet,
    state: Path | None = None,
    quiet: bool = True,
) -> list[Fitted | NotFinite]:
    """Train several heads as one batched computation, each as `fit` would alone, to rounding.

    Args:
        wanted: parameters, of one `stack_key` all, and what was prepared for their seeds.
        features: of all.
        state, quiet: as in `fit`.

    Returns what became of each, in order.

    Raises:
        UserError: a metric without truth.
        ValueError: when the runs cannot be one stack.
    """
    canonical = [methods.canonical(params) for params, _ in wanted]
    runs = [
        _run(params, features, prepared)
        for params, (_, prepared) in zip(canonical, wanted, strict=True)
    ]
    trainer = Trainer(runs, canonical[0].train, features)
    progress = trainer.run(state, quiet)
    return [
        NotFinite(one.failure) if one.failure else _fitted(params, head, one, features, prepared)
        for params, head, one, (_, prepared) in zip(
            canonical, trainer.heads, progress, wanted, strict=True
        )
    ]


# What runs of a stack may differ in: their shapes and the terms of their loss are the same.
VARYING = {
    "ua": {"theta", "theta_quantile", "csu_weight", "dr_weight", "sigma_init"},
    "train": {"seed"},
}


def shape_key(params: Params) -> str | None:
    """Equal for runs whose heads and losses have one shape; None where a run must be alone."""
    own = methods.canonical(params)
    if own.head.name not in STACKABLE:
        return None
    fixed = own.model_dump(include={"ua", "head", "train"})
    for section, names in VARYING.items():
        for name in names:
            del fixed[section][name]
    terms = (own.ua.csu_weight > 0, own.ua.dr_weight > 0, own.ua.theta_quantile is None)
    return digest([fixed, terms])


def stack_key(params: Params, prepared: Prepared) -> str | None:
    """`shape_key` with the number of batches, in which seeds may differ: one stack, one key."""
    shape = shape_key(params)
    if shape is None:
        return None
    return f"{shape}-{batch_shape(prepared.rows, params.train)[0]}"


def _run(params: Params, features: FeatureSet, prepared: Prepared) -> Run:
    """What the trainer needs of canonical parameters."""
    config = HeadConfig.from_params(
        params.head,
        params.ua,
        params.train,
        d_image=features.images.matrix.shape[1],
        d_text=features.texts.matrix.shape[1],
        shared_space=prepared.text_map is None,
        text_weight=prepared.weights[weight_key(*model_selection.TRAINED_FOR)],
    )

    def validate(head: ComposedHead) -> Metrics:
        values = model_selection.score(prepared.tasks, head, features)
        model_selection.pick(values, params.train.select)
        return values

    return Run(config, params.ua, params.train.seed, prepared.rows, validate)


def _fitted(
    params: Params,
    head: ComposedHead,
    progress: Progress,
    features: FeatureSet,
    prepared: Prepared,
) -> Fitted:
    """A trained head with what is kept beside it."""
    split = prepared.split
    extra = {
        "features": features.images.metadata,
        "select": params.train.select,
        "best_epoch": progress.best_epoch,
        "best_value": progress.best_value,
        "text_weights": prepared.weights,
        "alignment": pair_distances.measure(head, prepared.tasks, features),
        "threads": torch.get_num_threads(),
        "queries": {
            "train": len(split.train),
            "holdout": len(split.holdout),
            "dropped": split.dropped,
            "unusable": split.unusable,
        },
    }
    return Fitted(head.eval(), progress, prepared.text_map, extra)
