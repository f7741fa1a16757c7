"""Metrics of a ranking, in percent, one value per query, and their means."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rau.retrieval.ranking import Ranking  # Imports torch, and reports need none.

MISSING = 0  # The rank of a target that is not in the gallery.
CUTS = (1, 5, 10, 50)
SUBSET_CUTS = (1, 2, 3)
Values = dict[str, NDArray[np.float64]]


def recall_at_k(target_rank: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """100 where the target is among the first k, else 0, (Q,); a missing target is a miss."""
    hit: NDArray[np.bool_] = (target_rank != MISSING) & (target_rank <= k)
    return np.where(hit, 100.0, 0.0)


def from_ranks(
    target_rank: NDArray[np.int64],
    subset_rank: NDArray[np.int64] | None = None,
    average_precision: Mapping[int | None, NDArray[np.float64]] | None = None,
    r_precision: NDArray[np.float64] | None = None,
) -> Values:
    """Every metric by name, (Q,) each; arguments as in `Ranking`.

    `mean_of_r10_r50` is the mean of recall at 10 and 50 (FashionIQ's headline). Where queries have
    a subset also `subset_recall_at_K` and `mean_of_r5_rs1` (CIRR's headline). Where relevance is
    known also `map` over the whole gallery, `map_at_K`, divided by min(K, relevant), recall at the
    same K, and `r_precision`.
    """
    values = {f"recall_at_{k}": recall_at_k(target_rank, k) for k in CUTS}
    values["mean_of_r10_r50"] = (values["recall_at_10"] + values["recall_at_50"]) / 2
    if subset_rank is not None:
        for k in SUBSET_CUTS:
            values[f"subset_recall_at_{k}"] = recall_at_k(subset_rank, k)
        values["mean_of_r5_rs1"] = (values["recall_at_5"] + values["subset_recall_at_1"]) / 2
    for cut, precision in (average_precision or {}).items():
        values["map" if cut is None else f"map_at_{cut}"] = 100 * precision
        if cut is not None:
            values[f"recall_at_{cut}"] = recall_at_k(target_rank, cut)
    if r_precision is not None:
        values["r_precision"] = 100 * r_precision
    return values


def per_query(ranking: "Ranking", usable: NDArray[np.bool_]) -> Values:
    """`from_ranks` of a ranking, where rows that are not `usable` score 0."""
    values = from_ranks(
        ranking.target_rank, ranking.subset_rank, ranking.average_precision, ranking.r_precision
    )
    return {name: value * usable for name, value in values.items()}


def summarise(by_category: Mapping[str, Values]) -> dict[str, dict[str, float]]:
    """Means over the queries of each category, and `mean`, their unweighted mean.

    A metric that is missing in one category is not in `mean`.
    """
    means = {
        category: {name: float(value.mean()) for name, value in values.items()}
        for category, values in by_category.items()
    }
    shared = [
        name
        for name in next(iter(means.values()), {})
        if all(name in values for values in means.values())
    ]
    total = {name: float(np.mean([values[name] for values in means.values()])) for name in shared}
    return means | {"mean": total}


def stack(values: Values, names: Sequence[str]) -> NDArray[np.float64]:
    """Metrics as columns, (Q, len(names))."""
    return np.stack([values[name] for name in names], axis=1)
