"""Percentile bootstrap over queries and seeds, stratified by category (Efron 1979).

Seeds are crossed with queries: every seed ranks the same queries. A resample draws seeds once and
queries within each category, so that an interval covers both sources of variance.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rau.params import Section
from rau.retrieval.metrics import Values, stack, summarise

MEAN = "mean"
SEED = 0
BLOCK = 128
Floats = NDArray[np.float64]
Ends = tuple[Floats, Floats]
# Low and high end, as stored in JSON.
Finite = Annotated[float, Field(allow_inf_nan=False)]
Interval = Annotated[list[Finite], Field(min_length=2, max_length=2)]


@dataclass(frozen=True)
class Difference:
    """A mean difference with its interval and a two-sided p-value; NaN without resamples.

    `p` is twice the fraction of resamples on the opposite side of zero, at least
    2 / (resamples + 1).
    """

    value: float
    low: float
    high: float
    p: float


class PairedDifference(Section):
    """A mean paired difference; the interval and p are None without resamples."""

    difference: Finite
    interval: Interval | None
    p: Annotated[float, Field(ge=0, le=1)] | None

    @classmethod
    def of(cls, found: Difference) -> Self:
        """Convert a difference, rounded for tables."""
        drawn = not math.isnan(found.p)
        ends = [round(found.low, 4), round(found.high, 4)] if drawn else None
        return cls(
            difference=round(found.value, 4),
            interval=ends,
            p=round(found.p, 6) if drawn else None,
        )


def means(values: Mapping[str, Floats], clusters: Mapping[str, NDArray[np.int64]]) -> Floats:
    """Mean over categories of each metric's mean, (M,); arguments as in `draws`."""
    own = [_seeds_first(values[category]).mean((0, 1)) for category in sorted(clusters)]
    return np.asarray(np.mean(own, axis=0))


def draws(
    values: Mapping[str, Floats],
    clusters: Mapping[str, NDArray[np.int64]],
    resamples: int,
    seed: int,
) -> dict[str, Floats]:
    """Resampled means of each metric, (resamples, M), by category and under `mean`.

    Args:
        values: rows by metrics, (R, M), or seeds by rows by metrics, (S, R, M), by category.
        clusters: query index of each row, (R,), by category; the rows of a query are resampled
            together.
        resamples: number of resamples, at least 1.
    """
    found = {category: own for category, (own,) in _drawn([values], clusters, resamples, seed)}
    found[MEAN] = np.mean(list(found.values()), axis=0)
    return found


def mean_draws(
    sides: Sequence[Mapping[str, Floats]],
    clusters: Mapping[str, NDArray[np.int64]],
    resamples: int,
    seed: int,
) -> list[Floats]:
    """The `mean` of `draws` for several sides, which share the same resamples.

    The counts of a resample, which take most of the time of one side, are drawn once for all.

    Args:
        sides: values as in `draws`, all with the same number of seeds.
        clusters, resamples, seed: as in `draws`.
    """
    totals: list[Floats] = [np.zeros(())] * len(sides)
    for _, own in _drawn(sides, clusters, resamples, seed):
        totals = [total + drawn for total, drawn in zip(totals, own, strict=True)]
    return [np.asarray(total / len(clusters)) for total in totals]


def _drawn(
    sides: Sequence[Mapping[str, Floats]],
    clusters: Mapping[str, NDArray[np.int64]],
    resamples: int,
    seed: int,
) -> Iterator[tuple[str, list[Floats]]]:
    """Yield the resampled means of each side, (resamples, M), category by category."""
    rng = np.random.default_rng(seed)
    count = len(_seeds_first(next(iter(sides[0].values()))))
    # A single seed cannot be resampled.
    seeds = np.ones((resamples, 1)) if count == 1 else _seed_weights(rng, count, resamples)
    for category in sorted(sides[0]):
        own = [_seeds_first(side[category]) for side in sides]
        yield category, _category(own, clusters[category], seeds, rng)


def intervals(
    values: Mapping[str, Floats],
    clusters: Mapping[str, NDArray[np.int64]],
    resamples: int,
    seed: int,
    level: float = 0.95,
) -> dict[str, Ends]:
    """Intervals of each metric's mean, by category and for the mean over categories.

    Args:
        values, clusters: as in `draws`.
        resamples: number of resamples; 0 gives no intervals.
        level: confidence level.

    Returns:
        Low and high ends, (M,) each, by category and under `mean`.
    """
    if resamples == 0:
        return {}
    tails = [(1 - level) / 2, (1 + level) / 2]
    found = draws(values, clusters, resamples, seed)
    return {c: tuple(np.quantile(drawn, tails, axis=0)) for c, drawn in found.items()}


def differences(
    ours: Mapping[str, Floats],
    theirs: Mapping[str, Floats],
    clusters: Mapping[str, NDArray[np.int64]],
    resamples: int,
    seed: int,
) -> dict[str, list[Difference]]:
    """Paired differences ours - theirs of each metric, by category and for their mean.

    The rows of both sides are the same queries in the same order. With several seeds, seed s of
    one side is paired with seed s of the other.

    Raises:
        ValueError: if the two sides have different categories or shapes.
    """
    if {c: v.shape for c, v in ours.items()} != {c: v.shape for c, v in theirs.items()}:
        raise ValueError("the two sides have different categories, rows or metrics")
    gaps = {c: _seeds_first(ours[c]) - _seeds_first(theirs[c]) for c in ours}
    points = {c: gap.mean((0, 1)) for c, gap in gaps.items()} | {MEAN: means(gaps, clusters)}
    if resamples == 0:
        return {
            c: [Difference(float(v), np.nan, np.nan, np.nan) for v in p] for c, p in points.items()
        }
    found = draws(gaps, clusters, resamples, seed)
    return {category: of_draws(points[category], drawn) for category, drawn in found.items()}


def paired_differences(
    ours: Mapping[str, Values],
    theirs: Mapping[str, Values],
    clusters: Mapping[str, NDArray[np.int64]],
    resamples: int,
) -> dict[str, dict[str, Difference]]:
    """`differences` by category and metric, for metrics that both sides have in every category.

    Args:
        ours, theirs: metrics by name, (R,) each, by category.
        clusters, resamples: as in `draws`.
    """
    names = [name for name in summarise(ours)[MEAN] if name in summarise(theirs)[MEAN]]
    left, right = ({c: stack(v, names) for c, v in side.items()} for side in (ours, theirs))
    found = differences(left, right, clusters, resamples, SEED)
    return {category: dict(zip(names, one, strict=True)) for category, one in found.items()}


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for multiple comparisons (Holm 1979), in the given order."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def of_draws(points: Floats, drawn: Floats) -> list[Difference]:
    """Differences (M,) with intervals and p-values from their resampled values (resamples, M)."""
    ends = np.quantile(drawn, [0.025, 0.975], axis=0)
    sides = np.minimum((drawn <= 0).sum(0), (drawn >= 0).sum(0))
    p = np.minimum(1.0, 2 * (sides + 1) / (len(drawn) + 1))
    return [
        Difference(float(points[i]), float(ends[0, i]), float(ends[1, i]), float(p[i]))
        for i in range(len(points))
    ]


def _seeds_first(values: Floats) -> Floats:
    return values[None] if values.ndim == 2 else values


def _seed_weights(rng: np.random.Generator, count: int, resamples: int) -> Floats:
    """Weights of seeds, (resamples, count): resampled fractions, widened around 1 / count.

    Resampling few seeds underestimates their variance by a factor of (count - 1) / count, which is
    corrected here (Davison and Hinkley 1997, section 2.3.2).
    """
    shares = _multinomial(rng, count, resamples) / count
    return np.asarray(1 / count + (shares - 1 / count) * np.sqrt(count / (count - 1)))


def _multinomial(rng: np.random.Generator, count: int, size: int) -> Floats:
    return rng.multinomial(count, np.full(count, 1 / count), size=size).astype(np.float64)


def _category(
    sides: Sequence[Floats],
    clusters: NDArray[np.int64],
    seeds: Floats,
    rng: np.random.Generator,
) -> list[Floats]:
    """Resampled means, (resamples, M) per side: products of multinomial counts and query sums."""
    _, owner = np.unique(clusters, return_inverse=True)
    count = int(owner.max()) + 1
    sums = [_sums(values, owner, count) for values in sides]
    found = [np.empty((len(seeds), values.shape[2])) for values in sides]
    for start in range(0, len(seeds), BLOCK):
        part = seeds[start : start + BLOCK]
        counts = _multinomial(rng, count, len(part))
        for own, drawn in zip(sums, found, strict=True):
            totals = counts @ own
            by_seed = totals[:, :-1].reshape(len(part), part.shape[1], -1)
            means = np.einsum("rs,rsm->rm", part, by_seed) / totals[:, -1:]
            drawn[start : start + BLOCK] = means
    return found


def _sums(values: Floats, owner: NDArray[np.int64], count: int) -> Floats:
    """Sums of each query's rows, (count, seeds · metrics + 1); the last column is their number."""
    rows = values.shape[1]
    sums = np.zeros((count, values.shape[0] * values.shape[2] + 1))
    flat = values.transpose(1, 0, 2).reshape(rows, -1)
    np.add.at(sums, owner, np.column_stack([flat, np.ones(rows)]))
    return sums


def weights(
    strata: NDArray[np.int64], seeds: int, resamples: int, seed: int
) -> tuple[Floats, Floats]:
    """Number of times each resample draws each query, for statistics other than means.

    Args:
        strata: category of each query, (Q,); queries are drawn within their category.
        seeds: number of seeds, which are drawn as well.

    Returns:
        Counts of queries, (resamples, Q), and weights of seeds, (resamples, seeds).
    """
    rng = np.random.default_rng(seed)
    whole = np.ones((resamples, 1))
    of_seeds = whole if seeds == 1 else _seed_weights(rng, seeds, resamples)
    counts = np.zeros((resamples, len(strata)))
    for stratum in np.unique(strata):
        own = np.flatnonzero(strata == stratum)
        counts[:, own] = _multinomial(rng, len(own), resamples)
    return counts, of_seeds
