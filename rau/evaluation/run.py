"""The metrics and rankings of a run: a trained head and its baselines."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

import pyarrow as pa
from torch import Tensor

from rau.datasets import coverage
from rau.errors import UserError
from rau.evaluation import benchmark, head_record
from rau.evaluation.diagnostics import diagnose
from rau.evaluation.distractors import Distractors
from rau.evaluation.run_metrics import DatasetLabel, RunMetrics, TrainingSummary
from rau.features.table import Features, check_made_for
from rau.methods import METHODS
from rau.models import baselines, checkpoint
from rau.models.config import canonical
from rau.models.head import ComposedHead
from rau.params import Params
from rau.retrieval import protocols
from rau.retrieval.composed import COMPOSED, Composed
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.protocols import Protocol, weight_key
from rau.retrieval.tasks import Method
from rau.schemas import GalleryRow, ImageRow, QueryRow

REMEDY = "run `python -m pipeline.train` and `python -m pipeline.deterministic` again"


@dataclass(frozen=True)
class TrainedHead:
    """A trained head, its record, and its name in tables."""

    head: ComposedHead
    record: head_record.HeadRecord
    label: str

    @classmethod
    def load(cls, folder: Path, features: FeatureSet) -> Self:
        """Read a head that was trained on these features, to their device.

        Raises:
            UserError: when the head is damaged, or was trained on different features.
        """
        head, record = head_record.read(folder, features.device, REMEDY)
        pair = features.images, features.texts
        check_made_for(pair, record.features, head.config.d_image, head.config.d_text, REMEDY)
        return cls(head, record, METHODS[head.config.name].label)


def read_text_map(path: Path, features: FeatureSet) -> Tensor:
    """The baselines' ridge map from text to image features, (d_text + 1, d_image).

    Raises:
        UserError: when the file is damaged or does not fit the features.
    """
    text_map = checkpoint.load_state(path, "a ridge map", REMEDY)[0].get("text_map")
    shape = (features.text_matrix.shape[1] + 1, features.image_matrix.shape[1])
    if text_map is None or text_map.shape != shape or not bool(text_map.isfinite().all()):
        raise UserError(f"{path} is not a ridge map of {shape[0]} by {shape[1]}; {REMEDY}")
    return text_map.to(features.device)


def contestants(
    params: Params,
    trained: TrainedHead,
    deterministic: TrainedHead | None,
    text_map: Tensor | None,
    pairs: Features | None,
) -> dict[Protocol, dict[str, Method]]:
    """All methods to evaluate, by protocol and name: the untrained baselines, then the heads.

    Args:
        deterministic: the head that the trained one is paired with by query, if any.
        text_map: the baselines' ridge map; None in a shared space.
        pairs: joint features of reference and text; None if the encoder has no joint pass.

    Raises:
        UserError: when the headline is not one of the protocols.
    """
    known = [trained] if deterministic is None else [deterministic, trained]
    heads: dict[str, Method] = {one.label: one.head for one in known}
    weights = trained.record.text_weights
    composed = {COMPOSED: Composed(pairs)} if pairs is not None else {}
    return {
        protocol: with_baselines(
            untrained(protocol, weights, text_map) | composed, heads, text_map is None
        )
        for protocol in protocols.select(params.dataset.name, params.evaluate)
    }


def evaluate_run(
    params: Params,
    dataset: DatasetLabel,
    images: list[ImageRow],
    queries: list[QueryRow],
    galleries: list[GalleryRow],
    features: FeatureSet,
    methods: Mapping[Protocol, Mapping[str, Method]],
    trained: TrainedHead,
    deterministic: TrainedHead | None,
    training: Mapping[str, float | None] | None,
    distractors: Distractors | None = None,
) -> tuple[RunMetrics, pa.Table]:
    """Rank and evaluate a head, the deterministic head and the untrained baselines.

    Args:
        images, queries, galleries: rows of the data set's tables.
        methods: the result of `contestants`.
        deterministic: the head that the trained one is paired with by query, if any.
        training: result of `training.history.summary`; None if the head was not trained here, so
            that there is nothing to diagnose.
        distractors: images added to the galleries of the headline's protocol, as another protocol.

    Returns:
        The metrics, and a table of schema `RANKINGS`.

    Raises:
        UserError: when there are no val queries, or a target is not in its gallery.
    """
    headline = next(iter(methods))
    paired = None
    if deterministic is not None and deterministic.label != trained.label:
        paired = deterministic.label
    result, rankings = benchmark.evaluate(
        methods, queries, galleries, features, params.evaluate, trained.label, paired, distractors
    )
    differences = result.against.get(headline.name, {}).get("mean")
    val_gallery = {row["image_id"] for row in galleries if row["gallery"] == "original"}
    statuses = {row["image_id"]: row["status"] for row in images}
    metrics = RunMetrics(
        **dict(result),
        method=trained.label,
        head=params.train.head,
        dataset=dataset,
        encoder=features.texts.metadata | features.images.metadata,
        coverage=coverage.measure(statuses, queries, val_gallery, params.evaluate.unusable),
        relevance=benchmark.relevance([q for q in queries if q["split"] == "val"]),
        headline=benchmark.headline(result, headline),
        training=TrainingSummary(
            **trained.record.model_dump(include={*TrainingSummary.model_fields})
        ),
        diagnostics=[]
        if training is None
        else diagnose(canonical(params), training, trained.record.alignment, differences),
    )
    return metrics, rankings


def untrained(
    protocol: Protocol, weights: Mapping[str, float], text_map: Tensor | None
) -> dict[str, Method]:
    """The untrained baselines of a protocol, with its weight chosen on the holdout, if any."""
    weight = weights.get(weight_key(protocol.reference, protocol.join))
    return dict(baselines.untrained(weight, text_map))


def with_baselines(
    untrained: Mapping[str, Method], heads: Mapping[str, Method], shared_space: bool
) -> dict[str, Method]:
    """Baselines and heads by name; a baseline with a head's name is listed as untrained.

    In a shared space the head of that name has nothing to train and replaces the baseline.
    """
    if not shared_space:
        untrained = {f"{n}, untrained" if n in heads else n: m for n, m in untrained.items()}
    return {**untrained, **heads}


def rankings_metadata(metrics: RunMetrics) -> dict[str, str]:
    """Metadata of a rankings file, which `rau.table_metadata.RankingsMetadata` reads."""
    return {
        "method": metrics.method,
        "dataset": json.dumps(metrics.dataset.model_dump(by_alias=True, exclude_defaults=True)),
        "encoder": metrics.encoder_name,
        "coverage": str(metrics.coverage),
        "unusable": cast(str, metrics.coverage.unusable),
    }
