"""Percentile bootstrap over queries, stratified by category (Efron 1979)."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

MEAN = "mean"
BLOCK = 128
Interval = tuple[NDArray[np.float64], NDArray[np.float64]]


def intervals(
    values: Mapping[str, NDArray[np.float64]],
    clusters: Mapping[str, NDArray[np.int64]],
    resamples: int,
    seed: int,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Intervals of every metric's mean, by category and for the mean over categories.

    Queries are drawn with replacement inside their category; all rows of a query go together.

    Args:
        values: rows by metrics, (R, M), by category.
        clusters: number of the query each row belongs to, (R,), by category.
        resamples: 0 gives no interval.
        level: of confidence.

    Returns:
        Low and high ends, (M,) each, by category and under `mean`.
    """
    if resamples == 0:
        return {}
    rng = np.random.default_rng(seed)
    means = {c: _means(values[c], clusters[c], resamples, rng) for c in sorted(values)}
    means[MEAN] = np.mean(list(means.values()), axis=0)
    tails = [(1 - level) / 2, (1 + level) / 2]
    return {c: tuple(np.quantile(draws, tails, axis=0)) for c, draws in means.items()}


def _means(
    values: NDArray[np.float64],
    clusters: NDArray[np.int64],
    resamples: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Resampled means, (resamples, M), as products of multinomial counts with query sums."""
    _, owner = np.unique(clusters, return_inverse=True)
    count = int(owner.max()) + 1
    sums = np.zeros((count, values.shape[1] + 1))
    np.add.at(sums, owner, np.column_stack([values, np.ones(len(values))]))
    even = np.full(count, 1 / count)
    blocks = [
        rng.multinomial(count, even, size=min(BLOCK, resamples - start)) @ sums
        for start in range(0, resamples, BLOCK)
    ]
    totals = np.concatenate(blocks)
    return totals[:, :-1] / totals[:, -1:]
