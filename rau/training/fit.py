"""A trained head from parameters, features and queries."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rau.datasets.captions import joins_captions
from rau.errors import UserError
from rau.files import digest, digest_sources
from rau.methods import METHODS
from rau.models.config import HeadConfig, canonical
from rau.models.head import ComposedHead
from rau.params import Params, TrainParams
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.protocols import weight_key
from rau.retrieval.tasks import Task
from rau.schemas import QueryRow
from rau.training import model_selection, pair_distances
from rau.training.degradation import degrade
from rau.training.trainer import Metrics, Trainer, TrainingState
from rau.training.triplets import TrainSet, Triplets, divide, holdout_tasks, triplets_of

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


def code_digest(method: str) -> str:
    """Digest of all code that decides a head's weights: a state of older code is not resumed.

    Args:
        method: by name; of the registry its entry alone counts, so that others can be added.
    """
    return digest([digest_sources(Path(__file__).parents[1], SOURCES), repr(METHODS[method])], 64)


@dataclass(frozen=True)
class Prepared:
    """What all heads of one seed share: the split and what was chosen on the holdout before.

    Attributes:
        tasks: the holdout with the reference kept and captions joined forward.
        text_map: the baselines' ridge map; None in a shared space.
        weights: the weighted sum's, by `protocols.weight_key`.
    """

    split: TrainSet
    rows: Triplets
    tasks: list[Task]
    text_map: Tensor | None
    weights: model_selection.Weights


@dataclass(frozen=True)
class Fitted:
    """A head with all that was chosen on the holdout."""

    head: ComposedHead
    training: TrainingState
    text_map: Tensor | None
    extra: dict[str, Any]


def prepare(
    train: TrainParams,
    features: FeatureSet,
    queries: Sequence[QueryRow],
    choices: Sequence[model_selection.Choice] = model_selection.ALL_CHOICES,
) -> Prepared:
    """Carve the holdout and choose the baselines' weights on it.

    Args:
        train: its seeds, holdout, fraction, noise and select.
        choices: ways to treat reference and captions that a weight is chosen for.

    Raises:
        UserError: too few queries, a metric without truth.
    """
    split = degrade(divide(queries, features, train.holdout, train.split_seed), train)
    rows = triplets_of(split.train, features)
    tasks = holdout_tasks(split, features, "forward", False)
    text_map = model_selection.fit_text_map(rows, tasks, features, train.select)
    weights = model_selection.choose_weights(split, features, train.select, text_map, choices)
    return Prepared(split, rows, tasks, text_map, weights)


def fit(
    params: Params,
    features: FeatureSet,
    prepared: Prepared,
    state: Path | None,
    quiet: bool = False,
    start: ComposedHead | None = None,
    must_start: bool = True,
) -> Fitted:
    """Train the head that `head.name` asks for and keep the best epoch.

    Epochs are compared on the holdout with the reference kept and captions joined forward. `state`
    is the file that a stopped run resumes from; remove it once the head is saved. `start` is a head
    whose weights are trained further; where it is of another architecture, training starts fresh
    and says so, unless it `must_start` from there.

    Raises:
        NotFinite: when the loss is not.
        UserError: a metric without truth, a start of another architecture.
    """
    trainer = make_trainer(params, features, prepared)
    if start is not None and not take_over(trainer.head, start):
        if must_start:
            raise UserError(
                "train.start=finetuned: the composer that was fine-tuned "
                f"({start.config.name}) has other weights than this head; give both the same "
                "head.* and ua.*, or use train.start=fresh"
            )
        print(
            f"the composer that was fine-tuned ({start.config.name}) has other weights than the "
            f"{trainer.head.config.name} head, which starts fresh"
        )
    training, head = trainer.run(state, quiet), trainer.head
    extra = {
        "features": features.images.metadata,
        "select": params.train.select,
        "best_epoch": training.best_epoch,
        "best_value": training.best_value,
        "text_weights": prepared.weights,
        "alignment": pair_distances.measure(head, prepared.tasks, features),
        "threads": torch.get_num_threads(),
        "queries": prepared.split.counts,
        "joins_captions": joins_captions(q["captions"] for q in prepared.split.train),
        "dataset": params.dataset.name,
    }
    return Fitted(head.eval(), training, prepared.text_map, extra)


def needs_training(params: Params) -> bool:
    """Whether something of the method is trained, or chosen on a holdout, in a shared space."""
    method = METHODS[canonical(params).head.name]
    return method.chosen or not method.fixed


def untrained(
    params: Params, features: FeatureSet, queries: Sequence[QueryRow]
) -> tuple[ComposedHead, dict[str, Any]]:
    """The head of a method that needs no training, and what is saved with it.

    Args:
        queries: of all splits.

    Raises:
        UserError: in separate spaces, where every method has projections to train.
    """
    own = canonical(params)
    if not features.images.shared_space:
        raise UserError(
            f"head.name={own.head.name} has projections to train, because the features of images "
            "and texts lie in spaces of their own; add train queries or set train.head"
        )
    head = _made(own, features, shared_space=True, text_weight=0.5)
    return head.eval(), {
        "features": features.images.metadata,
        "select": own.train.select,
        "best_epoch": 0,
        "best_value": 0.0,
        "text_weights": {},
        "alignment": {},
        "threads": torch.get_num_threads(),
        "queries": {"train": 0, "holdout": 0},
        "joins_captions": joins_captions(query["captions"] for query in queries),
        "dataset": None,
    }


def take_over(head: ComposedHead, start: ComposedHead) -> bool:
    """Give a head the weights of another one, except for its temperature.

    What only the other has, as weights of its loss, is left.

    Returns:
        False, with the head as it was, when the other lacks a weight or has it in another shape.
    """
    own = {k: v for k, v in head.state_dict().items() if k != "log_temperature"}
    found = {k: v for k, v in start.state_dict().items() if k in own}
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in found.items()}:
        return False
    head.load_state_dict(found, strict=False)
    return True


def make_trainer(params: Params, features: FeatureSet, prepared: Prepared) -> Trainer:
    """A trainer of the head that `head.name` asks for, its weights drawn from the seed."""
    own = canonical(params)
    weight = prepared.weights[weight_key(*model_selection.TRAINED_FOR)]

    def validate(head: ComposedHead) -> Metrics:
        values = model_selection.score(prepared.tasks, head, features)
        model_selection.pick(values, own.train.select)
        return values

    head = _made(own, features, prepared.text_map is None, weight)
    return Trainer(head, own.ua, own.train, prepared.rows, features, validate)


def _made(
    own: Params, features: FeatureSet, shared_space: bool, text_weight: float
) -> ComposedHead:
    """A head on the features' device, its weights drawn from the seed of canonical parameters."""
    config = HeadConfig.from_params(
        own.head,
        own.ua,
        own.train,
        d_image=features.images.matrix.shape[1],
        d_text=features.texts.matrix.shape[1],
        shared_space=shared_space,
        text_weight=text_weight,
    )
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(own.train.seed)
        return ComposedHead(config).to(features.device)
