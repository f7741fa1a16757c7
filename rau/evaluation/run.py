"""A trained head and its baselines measured: the metrics and rankings of a run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import pyarrow as pa
from torch import Tensor

from rau.datasets import coverage
from rau.evaluation import benchmark
from rau.evaluation.diagnostics import diagnose
from rau.evaluation.run_metrics import DatasetLabel, RunMetrics, TrainingSummary
from rau.features.table import check_made_for
from rau.methods import METHODS
from rau.models import baselines, checkpoint
from rau.models.config import canonical
from rau.models.head import ComposedHead
from rau.params import Params
from rau.retrieval import protocols
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.protocols import Protocol, weight_key
from rau.retrieval.tasks import Method
from rau.schemas import GalleryRow, ImageRow, QueryRow

TRAINING = tuple(TrainingSummary.model_fields)


@dataclass(frozen=True)
class TrainedHead:
    """A trained head, the record saved with it, and its name in tables."""

    head: ComposedHead
    extra: Mapping[str, Any]
    label: str

    @classmethod
    def load(cls, folder: Path, features: FeatureSet) -> Self:
        """Read a head that was trained on these features, onto their device.

        Raises:
            UserError: when the head is damaged, or was trained on different features.
        """
        head, extra = checkpoint.load(folder, features.device)
        pair = features.images, features.texts
        check_made_for(pair, extra["features"], head.config.d_image, head.config.d_text)
        return cls(head, extra, METHODS[head.config.name].label)


def evaluate_run(
    params: Params,
    dataset: DatasetLabel,
    images: list[ImageRow],
    queries: list[QueryRow],
    galleries: list[GalleryRow],
    features: FeatureSet,
    trained: TrainedHead,
    deterministic: TrainedHead,
    text_map: Tensor | None,
    training: Mapping[str, float | None],
) -> tuple[RunMetrics, pa.Table]:
    """Rank and measure a head, the deterministic head and the untrained baselines.

    Args:
        images, queries, galleries: rows of the data set's tables.
        deterministic: the head that the trained one is paired with by query.
        text_map: the baselines' ridge map; None in a shared space.
        training: result of `training.history.summary`.

    Returns:
        The metrics, and a table of schema `RANKINGS`.

    Raises:
        UserError: when there are no val queries, or a target is not in its gallery.
    """
    measured = protocols.select(params.dataset.name, params.evaluate)
    heads: dict[str, Method] = {
        deterministic.label: deterministic.head,
        trained.label: trained.head,
    }
    weights = trained.extra["text_weights"]
    paired = deterministic.label if deterministic.label != trained.label else None
    result, rankings = benchmark.evaluate(
        {
            protocol: with_baselines(
                untrained(protocol, weights, text_map), heads, text_map is None
            )
            for protocol in measured
        },
        queries,
        galleries,
        features,
        params.evaluate,
        trained.label,
        paired,
    )
    differences = result.against.get(measured[0].name, {}).get("mean")
    val_gallery = {row["image_id"] for row in galleries if row["gallery"] == "original"}
    metrics = RunMetrics(
        **dict(result),
        method=trained.label,
        dataset=dataset,
        encoder=features.images.metadata,
        coverage=coverage.measure(images, queries, val_gallery, params.evaluate.unusable),
        relevance=benchmark.relevance([q for q in queries if q["split"] == "val"]),
        headline=benchmark.headline(result, measured[0]),
        training=TrainingSummary(**{name: trained.extra[name] for name in TRAINING}),
        diagnostics=diagnose(canonical(params), training, trained.extra["alignment"], differences),
    )
    return metrics, rankings


def untrained(
    protocol: Protocol, weights: Mapping[str, float], text_map: Tensor | None
) -> dict[str, Method]:
    """The untrained baselines of a protocol, with its weight chosen on the holdout."""
    weight = weights[weight_key(protocol.reference, protocol.join)]
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
    """Metadata of a rankings file, read as `rau.schemas.RankingsMetadata`."""
    return {
        "method": metrics.method,
        "dataset": json.dumps(metrics.dataset.model_dump(by_alias=True, exclude_defaults=True)),
        "encoder": metrics.encoder_name,
        "coverage": str(metrics.coverage),
        "unusable": cast(str, metrics.coverage.unusable),
    }
