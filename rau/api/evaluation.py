"""Evaluate any method on any features under the protocols of the field."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import torch
from pydantic import ValidationError

from rau.api.frames import REMEDY, Rows, frame_of, gallery_rows, query_rows
from rau.datasets.annotations import MEAN
from rau.datasets.captions import all_texts
from rau.errors import UserError
from rau.evaluation import benchmark
from rau.methods import METHODS
from rau.models import baselines
from rau.params import EvaluateParams, first_error
from rau.retrieval import protocols
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.tasks import Method
from rau.schemas import QueryRow

# Untrained methods by their name in `rau.methods`.
_BY_LABEL = baselines.untrained(None, None)
UNTRAINED: dict[str, Method] = {
    name: _BY_LABEL[method.label] for name, method in METHODS.items() if method.label in _BY_LABEL
}
COLUMNS = ["category", "metric", "value", "low", "high"]


def needed_texts(queries: Rows) -> list[str]:
    """List all texts that need a feature: captions as joined by training and all protocols.

    Args:
        queries: rows with `captions`, and `concept` for CIRCO, as returned by `rau.datasets.read`.

    Raises:
        UserError: when a row has no captions.

    >>> rau.needed_texts([{"captions": ["is red", "is long"]}])
    ['Is red and is long', 'Is long and is red', 'Is red', 'Is long']
    """
    frame = frame_of(queries, "queries")
    captions, concepts = (frame.get(n, [None] * len(frame)) for n in ("captions", "concept"))
    texts: dict[str, None] = {}
    for place, (one, concept) in enumerate(zip(captions, concepts, strict=True)):
        listed = [one] if isinstance(one, str) else one
        own = [*listed] if isinstance(listed, Iterable) else []
        if not own or not all(isinstance(text, str) for text in own):
            raise UserError(f"queries: row {place} has no captions; give one string or several")
        texts |= dict.fromkeys(all_texts(own, concept if isinstance(concept, str) else None))
    return list(texts)


def evaluate(
    features: FeatureSet,
    queries: Rows,
    galleries: Rows | Iterable[str],
    protocol: str = "original",
    method: str | Method = "sum",
    *,
    split: str = "val",
    top_k: int = 50,
    bootstrap: int = 1000,
    unusable: str = "miss",
) -> pd.DataFrame:
    """Evaluate a method under a protocol, with the code that evaluates every run of the pipeline.

    Args:
        features: result of `feature_set`.
        queries: rows with `reference_id`, `target_id` and `captions` (one string or several), and
            optionally `query_id`, `category`, `split`, `members` (CIRR's set), `relevant` (all
            correct answers) and `concept` (CIRCO's).
        galleries: rows of `gallery`, `category` and `image_id`, or the ids of one gallery.
        protocol: `original` or `val` of FashionIQ, `cirr`, or another of docs/protocols.md.
        method: an untrained method for a shared space: `sum`, `raw_sum`, `image_only` or
            `text_only`; a `Head`; or any object with `encode_query(reference, text)` and
            `encode_gallery(image)`, which map feature tensors (B, d_image) and (B, d_text) to
            vectors (B, d) and uncertainties (B,).
        split: split to evaluate, if `queries` has splits.
        top_k: length of the ranked lists.
        bootstrap: number of resamples over queries; 0 for no intervals.
        unusable: queries with missing images count as a `miss` (score 0), or are excluded
            (`leave_out`).

    Returns:
        Percentages and their 95 % intervals, columns `value`, `low` and `high`, by category
        (`mean` is the mean over categories) and metric.

    Raises:
        UserError: when an argument is invalid, or a row or a feature is missing or malformed.

    >>> features = rau.feature_set(
    ...     images=(["a", "b", "c"], [[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]]),
    ...     texts={"is red": [0.0, 1.0]},
    ...     shared_space=True,
    ... )
    >>> queries = [{"reference_id": "a", "target_id": "b", "captions": "is red"}]
    >>> found = rau.evaluate(features, queries, ["a", "b", "c"], method="sum")
    >>> float(found.value["mean", "recall_at_1"])
    100.0
    """
    measured = protocols.named(protocol)
    chosen = _untrained(method, features) if isinstance(method, str) else _own(method)
    rows = query_rows(queries, split, "val")
    _check(rows)
    settings = _settings(top_k=top_k, bootstrap=bootstrap, unusable=unusable)
    members = gallery_rows(galleries, sorted({row["category"] for row in rows}), measured.gallery)
    # A caller's method may be a module with parameters.
    with torch.no_grad():
        result, _ = benchmark.evaluate(
            {measured: {"method": chosen}}, rows, members, features, settings, "method"
        )
    ends = result.intervals.get(measured.name, {})
    lines = [
        (category, metric, value, *ends.get(category, {}).get(metric, (float("nan"),) * 2))
        for category, values in result.protocols[measured.name].items()
        for metric, value in values.items()
    ]
    return pd.DataFrame(lines, columns=COLUMNS).set_index(COLUMNS[:2])


def _check(rows: Sequence[QueryRow]) -> None:
    """Refuse queries that would be counted wrongly without an error."""
    if hidden := sum(row["target_id"] is None for row in rows):
        raise UserError(
            f"queries: target_id is null in {hidden:,} rows, whose answers are hidden; choose a "
            "split with answers"
        )
    if any(row["category"] == MEAN for row in rows):
        raise UserError(
            f"queries: a category cannot be named {MEAN!r}, the name of the mean over categories; "
            "rename it"
        )


def _settings(**values: Any) -> EvaluateParams:
    try:
        return EvaluateParams.model_validate(values)
    except ValidationError as error:
        key, message = first_error(error)
        raise UserError(f"{key}: {message}") from error


def _own(method: Method) -> Method:
    absent = [name for name in ("encode_query", "encode_gallery") if not hasattr(method, name)]
    if absent:
        raise UserError(f"method: {type(method).__name__} has no {absent[0]}; {REMEDY}")
    return method


def _untrained(name: str, features: FeatureSet) -> Method:
    if name not in UNTRAINED:
        raise UserError(
            f"unknown untrained method {name!r}; choose from {', '.join(UNTRAINED)}, or give "
            "the head that `rau.fit` returns"
        )
    if METHODS[name].reads_text and not features.images.shared_space:
        raise UserError(
            f"{name} compares images with texts, whose features share no space; pass "
            "shared_space=True if they do, else train a head with `rau.fit`"
        )
    return UNTRAINED[name]
