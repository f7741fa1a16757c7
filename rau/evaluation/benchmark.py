"""Every method under every protocol: metrics with intervals, and the underlying rankings."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rau.errors import UserError
from rau.evaluation import bootstrap, composition
from rau.evaluation.bootstrap import PairedDifference
from rau.evaluation.counted import Counted
from rau.evaluation.distractors import Distractors, enlarged
from rau.evaluation.run_metrics import (
    BenchmarkResult,
    DistractorFigures,
    Headline,
    Intervals,
    Relevance,
    Scores,
)
from rau.params import EvaluateParams
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.metrics import MISSING, stack, summarise
from rau.retrieval.protocols import Protocol
from rau.retrieval.tasks import Method, Ranked, Task, measured, protocol_tasks, run_all
from rau.schemas import RANKINGS, GalleryRow, QueryRow
from rau.shards import Shard


def summaries(
    tasks: Sequence[Task], by_name: Mapping[str, Sequence[Ranked]], evaluate: EvaluateParams
) -> dict[str, tuple[Scores, Intervals]]:
    """Means and intervals of each method, as `<category or mean>.<metric>`.

    Raises:
        UserError: when unusable queries are left out and no query remains.
    """
    found = {name: measured(tasks, ranked, evaluate) for name, ranked in by_name.items()}
    means = {name: summarise(values) for name, (values, _) in found.items()}
    metrics = list(next(iter(means.values()))["mean"])
    clusters = next(iter(found.values()))[1]
    # In one table, so that all methods use the same resamples.
    table = {
        category: np.hstack([stack(values[category], metrics) for values, _ in found.values()])
        for category in clusters
    }
    ends = bootstrap.intervals(table, clusters, evaluate.bootstrap, bootstrap.SEED)
    return {
        name: (
            {c: {m: round(v, 4) for m, v in row.items()} for c, row in means[name].items()},
            {
                category: {
                    metric: [round(float(end[column]), 4) for end in pair]
                    for column, metric in enumerate(metrics, start=number * len(metrics))
                }
                for category, pair in ends.items()
            },
        )
        for number, name in enumerate(found)
    }


def paired_differences(
    tasks: Sequence[Task],
    ours: Sequence[Ranked],
    theirs: Sequence[Ranked],
    evaluate: EvaluateParams,
) -> dict[str, dict[str, PairedDifference]]:
    """Paired differences ours - theirs, as `<category or mean>.<metric>`, with intervals and p."""
    (left, clusters), (right, _) = (measured(tasks, side, evaluate) for side in (ours, theirs))
    found = bootstrap.paired_differences(left, right, clusters, evaluate.bootstrap)
    return {
        category: {name: PairedDifference.of(one) for name, one in differences.items()}
        for category, differences in found.items()
    }


def by_aspect(
    tasks: Sequence[Task],
    ranked: Sequence[Ranked],
    queries: Sequence[QueryRow],
    evaluate: EvaluateParams,
) -> dict[str, float]:
    """mAP@10 of the queries of each semantic aspect; a query may have several (CIRCO)."""
    aspects = {query["query_id"]: query.get("aspects") or () for query in queries}
    found: dict[str, list[float]] = defaultdict(list)
    values, clusters = measured(tasks, ranked, evaluate)
    for task in tasks:
        owner = dict(zip(task.clusters.tolist(), task.query_ids, strict=True))
        precisions = values[task.category]["map_at_10"].tolist()
        for cluster, precision in zip(clusters[task.category].tolist(), precisions, strict=True):
            for aspect in aspects[owner[cluster]]:
                found[aspect].append(precision)
    return {aspect: round(float(np.mean(found[aspect])), 4) for aspect in sorted(found)}


def ranking_rows(method: str, protocol: str, task: Task, ranked: Ranked) -> pa.Table:
    """The rankings of a task, one row per query text, of schema `RANKINGS`."""
    ranking = ranked.ranking
    ids = np.array([*task.gallery_ids, None], dtype=object)
    count = len(task.query_ids)
    precision = ranking.average_precision.get(None)
    # A row whose reference or target is missing was not ranked; it counts as a miss.
    usable = task.usable
    lost = ~usable
    return pa.table(
        {
            "query_id": task.query_ids,
            "method": [method] * count,
            "protocol": [protocol] * count,
            "category": [task.category] * count,
            "text": [" | ".join(texts) for texts in task.texts],
            "reference_id": task.reference_ids,
            "target_id": task.target_ids,
            "target_rank": _ranks(ranking.target_rank, count),
            "subset_rank": _ranks(ranking.subset_rank, count),
            "average_precision": pa.array(
                [None] * count if precision is None else precision,
                pa.float64(),
                mask=None if precision is None else lost,
            ),
            "uncertainty": pa.array(ranked.uncertainty, mask=lost),
            "target_uncertainty": pa.array(ranked.target_uncertainty, mask=lost),
            "top": [
                [i for i in ids[row] if i is not None] if there else []
                for row, there in zip(ranking.top, usable, strict=True)
            ],
            "scores": [
                row[~np.isnan(row)] if there else row[:0]
                for row, there in zip(ranking.scores, usable, strict=True)
            ],
        },
        schema=RANKINGS,
    )


def _ranks(ranks: NDArray[np.int64] | None, count: int) -> pa.Array:
    """Ranks (count,), null if the target is missing or the row was not ranked."""
    if ranks is None:
        return pa.nulls(count, pa.int64())
    return pa.array(ranks, mask=ranks == MISSING)


def relevance(queries: Sequence[QueryRow]) -> Relevance | None:
    """Number of correct answers per val query, if known."""
    sizes = [len(query["relevant"]) for query in queries if query["relevant"] is not None]
    if not sizes:
        return None
    return Relevance(
        queries=len(sizes),
        median=float(np.median(sizes)),
        mean=round(float(np.mean(sizes)), 2),
    )


def evaluate(
    methods: Mapping[Protocol, Mapping[str, Method]],
    queries: Sequence[QueryRow],
    galleries: Sequence[GalleryRow],
    features: FeatureSet,
    evaluate: EvaluateParams,
    head: str,
    reference_head: str | None = None,
    distractors: Distractors | None = None,
) -> tuple[BenchmarkResult, pa.Table]:
    """Rank and compute metrics.

    Args:
        methods: by protocol and name, the headline's protocol first.
        queries: rows of the queries table; those of val are evaluated.
        head: name of the run's own method; the others are baselines.
        reference_head: name of the baseline that it is paired with by query; None for no pairing.
        distractors: images added to the galleries of the first protocol, as an additional protocol.

    Returns:
        The metrics, and the rankings table.

    Raises:
        UserError: when there are no val queries, or a target is not in its gallery.
    """
    val = _val(queries)
    tasks = {p: protocol_tasks(p, val, galleries, features) for p in methods}
    lists = _rank_all(methods, tasks, features, evaluate.top_k)
    sizes, added = {p.name: {t.category: len(t.gallery) for t in tasks[p]} for p in tasks}, None
    if distractors is not None:
        added = _add(distractors, methods, tasks, lists, features, evaluate.top_k)
        first = next(iter(sizes.values())).items()
        sizes[added.protocol] = {category: size + added.images for category, size in first}
    result, tables = BenchmarkResult(galleries=sizes, distractors=added), []
    has_aspects = any(query.get("aspects") for query in val)
    for protocol, own in tasks.items():
        by_name = lists[protocol]
        # The protocol of the distractors has the methods of the first one.
        ranking = methods.get(protocol) or next(iter(methods.values()))
        if single := composition.single_modalities(ranking):
            result.composition[protocol.name] = composition.of_protocol(
                own, by_name, single, protocol.metric, evaluate
            )
        if reference_head is not None:
            result.against[protocol.name] = paired_differences(
                own, by_name[head], by_name[reference_head], evaluate
            )
        if has_aspects:
            result.aspects[protocol.name] = {
                name: by_aspect(own, ranked, val, evaluate) for name, ranked in by_name.items()
            }
        for name, (means, ends) in summaries(own, by_name, evaluate).items():
            if name == head:
                result.protocols[protocol.name] = means
                result.intervals[protocol.name] = ends
            else:
                result.baselines.setdefault(name, {})[protocol.name] = means
                result.baseline_intervals.setdefault(name, {})[protocol.name] = ends
            tables += [
                ranking_rows(name, protocol.name, task, one)
                for task, one in zip(own, by_name[name], strict=True)
            ]
    return result, pa.concat_tables(tables)


def _add(
    distractors: Distractors,
    methods: Mapping[Protocol, Mapping[str, Method]],
    tasks: dict[Protocol, list[Task]],
    lists: dict[Protocol, dict[str, list[Ranked]]],
    features: FeatureSet,
    top_k: int,
) -> DistractorFigures:
    """Add the tasks and rankings of the first protocol in the larger galleries."""
    first = next(iter(methods))
    larger = first.with_distractors()
    counted = distractors.count(tasks[first], methods[first], features, top_k)
    tasks[larger], lists[larger] = enlarged(counted, tasks[first], lists[first])
    return distractors.figures(larger, counted)


def count_distractors(
    methods: Mapping[Protocol, Mapping[str, Method]],
    queries: Sequence[QueryRow],
    galleries: Sequence[GalleryRow],
    features: FeatureSet,
    evaluate: EvaluateParams,
    distractors: Distractors,
    shard: Shard,
) -> Counted:
    """Only count a shard of the distractors; `evaluate` with the same arguments combines them.

    Raises:
        UserError: as `evaluate`, and when a file of the distractors is damaged.
    """
    protocol, own = next(iter(methods.items()))
    tasks = protocol_tasks(protocol, _val(queries), galleries, features)
    return distractors.count(tasks, own, features, evaluate.top_k, shard)


def _val(queries: Sequence[QueryRow]) -> list[QueryRow]:
    val = [query for query in queries if query["split"] == "val"]
    if not val:
        raise UserError("the data set has no val queries; nothing can be evaluated")
    return val


def _rank_all(
    methods: Mapping[Protocol, Mapping[str, Method]],
    tasks: Mapping[Protocol, Sequence[Task]],
    features: FeatureSet,
    top_k: int,
) -> dict[Protocol, dict[str, list[Ranked]]]:
    """Rank every method's tasks; a method that several protocols share encodes only once."""
    uses: dict[int, list[tuple[Protocol, str]]] = defaultdict(list)
    for protocol, by_name in methods.items():
        for name, method in by_name.items():
            uses[id(method)].append((protocol, name))
    found: dict[Protocol, dict[str, list[Ranked]]] = {
        protocol: {name: [] for name in by_name} for protocol, by_name in methods.items()
    }
    for shared in uses.values():
        protocol, name = shared[0]
        wanted = [task for protocol, _ in shared for task in tasks[protocol]]
        ranked = iter(run_all(wanted, methods[protocol][name], features, top_k))
        for protocol, name in shared:
            found[protocol][name] = [next(ranked) for _ in tasks[protocol]]
    return found


def headline(result: BenchmarkResult, protocol: Protocol) -> Headline:
    """The headline metric, with its protocol and interval."""
    ends = result.intervals.get(protocol.name, {}).get("mean", {})
    return Headline(
        protocol=protocol.name,
        metric=protocol.metric,
        value=result.protocols[protocol.name]["mean"][protocol.metric],
        interval=ends.get(protocol.metric),
    )
