"""Whether a metric measures composition: comparison of methods with single modalities.

The single modalities, only the reference or only the caption, are the untrained baselines
`image only` and `text only`. A modality solves a query if it ranks the target among the first
`CUT`. If one solves most of the queries that a method solves, or is only slightly worse, the
method's recall says little about composition.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rau.evaluation import bootstrap
from rau.evaluation.bootstrap import MEAN, PairedDifference
from rau.evaluation.run_metrics import Composition, MethodComposition
from rau.models.baselines import WeightedSum
from rau.params import EvaluateParams
from rau.retrieval.metrics import Values
from rau.retrieval.tasks import Method, Ranked, Task, measured

CUT = 10
HIT = f"recall_at_{CUT}"
ByCategory = Mapping[str, Values]
Clusters = Mapping[str, NDArray[np.int64]]


def single_modalities(methods: Mapping[str, Method]) -> tuple[str, str] | None:
    """Names of the untrained baselines that use only the reference and only the caption.

    None unless both are present.
    """
    by_weight: dict[float, str] = {}
    for name, method in methods.items():
        if isinstance(method, WeightedSum):
            by_weight.setdefault(method.text_weight, name)
    return (by_weight[0.0], by_weight[1.0]) if {0.0, 1.0} <= by_weight.keys() else None


def of_protocol(
    tasks: Sequence[Task],
    by_name: Mapping[str, Sequence[Ranked]],
    single: tuple[str, str],
    metric: str,
    evaluate: EvaluateParams,
) -> dict[str, Composition]:
    """Measure the composition of every method of a protocol, by category, the mean first.

    Args:
        by_name: rankings by method, including those of the single modalities.
        single: result of `single_modalities`.
        metric: the protocol's main metric, for which the gap is measured.
    """
    found = {name: measured(tasks, ranked, evaluate) for name, ranked in by_name.items()}
    values = {name: own for name, (own, _) in found.items()}
    clusters, resamples = found[single[0]][1], evaluate.bootstrap
    told = {MEAN: measure(values, clusters, single, metric, resamples)}
    for category in clusters:
        own = {name: {category: by_category[category]} for name, by_category in values.items()}
        rows = {category: clusters[category]}
        told[category] = measure(own, rows, single, metric, resamples)
    return told


def measure(
    values: Mapping[str, ByCategory],
    clusters: Clusters,
    single: tuple[str, str],
    metric: str,
    resamples: int,
) -> Composition:
    """Measure the composition of methods from their metrics, as means over categories.

    Args:
        values: metrics in percent, (R,) each, by method and category.
        clusters: query index of each row, (R,), by category.
        single: names of the methods that use only the reference and only the caption.
        resamples: number of resamples for the intervals; 0 for no intervals.
    """
    better = max(single, key=lambda name: _mean(_column(values[name], metric)))
    hits = {name: {c: own[HIT] > 0 for c, own in values[name].items()} for name in values}
    reference, caption = (hits[name] for name in single)
    either = {c: reference[c] | caption[c] for c in reference}
    methods = {}
    for name, own in values.items():
        gap = bootstrap.paired_differences(
            _column(own, metric), _column(values[better], metric), clusters, resamples
        )[MEAN][metric]
        both = _mean({c: {HIT: hits[name][c] & either[c]} for c in either})
        every = _mean({c: {HIT: hits[name][c]} for c in either})
        methods[name] = MethodComposition(
            gap=PairedDifference.of(gap),
            alone=round(both / every, 4) if every else None,
        )
    return Composition(
        metric=metric,
        cut=CUT,
        better=better,
        reference=_share(reference),
        caption=_share(caption),
        either=_share(either),
        methods=methods,
    )


def _column(values: ByCategory, metric: str) -> dict[str, Values]:
    return {category: {metric: own[metric]} for category, own in values.items()}


def _mean(values: Mapping[str, Mapping[str, NDArray[np.bool_] | NDArray[np.float64]]]) -> float:
    """Mean over categories of the mean of the single column."""
    return float(np.mean([column.mean() for own in values.values() for column in own.values()]))


def _share(hits: Mapping[str, NDArray[np.bool_]]) -> float:
    return round(_mean({category: {HIT: own} for category, own in hits.items()}), 4)
