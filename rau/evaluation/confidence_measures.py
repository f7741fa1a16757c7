"""Measures of how well a score separates successful queries from unsuccessful ones.

Measures take queries ordered by a score, with labels between 0 and 1 (whether the target was
found, or an average precision) and B rows of weights: a row of ones gives the measure itself, rows
of bootstrap counts its resamples. Ties are in random order: measures take the expected value.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS, ECE_BINS = 10, 15


@dataclass(frozen=True)
class Ordered:
    """Q queries in descending order of confidence.

    Attributes:
        score: (Q,).
        label, weight: (B, Q); tied queries share the mean of their labels.
    """

    score: Floats
    label: Floats
    weight: Floats

    @classmethod
    def of(cls, score: Floats, label: Floats, weights: Floats) -> Self:
        """Order queries by descending scores (Q,), with labels (Q,) and weights (B, Q)."""
        order = np.argsort(-score, kind="stable")
        own, weight = score[order], weights[:, order]
        starts = np.flatnonzero(np.r_[True, own[1:] != own[:-1]])
        sizes = np.diff(np.r_[starts, len(own)])
        found = np.add.reduceat(weight * label[order], starts, axis=1)
        total = np.add.reduceat(weight, starts, axis=1)
        means = found / np.where(total == 0, 1, total)
        return cls(own, np.repeat(means, sizes, axis=1), weight)

    @cached_property
    def up_to(self) -> tuple[Floats, Floats]:
        """Cumulative share of the weight and mean label up to each query, (B, Q) each."""
        total = self.weight.cumsum(1)
        found = (self.weight * self.label).cumsum(1)
        return total / total[:, -1:], found / np.where(total == 0, 1, total)

    def bins(self, count: int, values: Floats) -> tuple[Floats, Floats]:
        """Means of values (B, Q) in bins of equal weight, and bin weights, (B, count) each."""
        middle = (self.weight.cumsum(1) - self.weight / 2) / self.weight.sum(1, keepdims=True)
        place = np.minimum((middle * count).astype(np.int64), count - 1)
        flat = (place + count * np.arange(len(place))[:, None]).ravel()
        shape = len(self.weight), count

        def summed(of: Floats) -> Floats:
            found = np.bincount(flat, of.ravel(), shape[0] * count)
            return np.asarray(found, np.float64).reshape(shape)

        weight = summed(self.weight)
        return summed(self.weight * values) / np.where(weight == 0, 1, weight), weight

    @cached_property
    def tenths(self) -> Floats:
        """Mean labels of ten bins of equal weight, most confident first, (B, 10)."""
        return self.bins(BINS, self.label)[0]


def auroc(ordered: Ordered) -> Floats:
    """Probability that a success has a larger score than a failure; ties count one half.

    NaN if all queries are successes or all are failures.
    """
    hit, miss = ordered.weight * ordered.label, ordered.weight * (1 - ordered.label)
    total = miss.sum(1)
    behind = total[:, None] - miss.cumsum(1) + miss / 2
    pairs = hit.sum(1) * total
    return np.asarray((hit * behind).sum(1) / np.where(pairs == 0, np.nan, pairs))


def aurc(ordered: Ordered) -> Floats:
    """Area under the risk-coverage curve: mean over coverages of 1 - mean label of the covered.

    Geifman and El-Yaniv 2017 (arXiv 1705.08500).
    """
    found, weight = ordered.up_to[1], ordered.weight
    return np.asarray(1 - (found * weight).sum(1) / weight.sum(1))


def at_coverage(ordered: Ordered, coverage: float) -> Floats:
    """Mean label of the most confident fraction `coverage` of the queries."""
    share, found = ordered.up_to
    place = (share < coverage - 1e-9).sum(1)
    return np.asarray(found[np.arange(len(found)), place])


def spearman(ordered: Ordered) -> Floats:
    """Spearman correlation of bin number and mean label over ten bins of equal mass."""
    return _correlation(_ranks(ordered.tenths))


def r_squared(ordered: Ordered) -> Floats:
    """R² of a line fitted to the bins of `spearman`."""
    return np.asarray(_correlation(ordered.tenths) ** 2)


ORDER: Mapping[str, Callable[[Ordered], Floats]] = {
    "AUROC": auroc,
    "AURC": aurc,
    "at 100 %": lambda ordered: at_coverage(ordered, 1.0),
    "at 90 %": lambda ordered: at_coverage(ordered, 0.9),
    "at 80 %": lambda ordered: at_coverage(ordered, 0.8),
    "at 50 %": lambda ordered: at_coverage(ordered, 0.5),
    "Spearman": spearman,
    "R²": r_squared,
}


def least_aurc(label: Floats, weights: Floats) -> Floats:
    """Lowest `aurc` that any order of these labels can reach, (B,)."""
    return aurc(Ordered.of(label, label, weights))


def of_order(score: Floats, label: Floats, weights: Floats, least: Floats) -> dict[str, Floats]:
    """All measures of the order, (B,) each; AUROC only for binary labels.

    `excess AURC` is the AURC minus the lowest possible one (arXiv 1805.08206).
    """
    ordered = Ordered.of(score, label, weights)
    binary = bool(np.isin(label, (0, 1)).all())
    found = {name: own(ordered) for name, own in ORDER.items() if binary or name != "AUROC"}
    return found | {"excess AURC": found["AURC"] - least}


def reliability(
    probability: Floats, label: Floats, weights: Floats
) -> tuple[Floats, Floats, Floats]:
    """Mean probability, mean label and weight of 15 bins of equal mass, most confident first.

    (B, 15) each; a bin without weight has means of 0.
    """
    ordered = Ordered.of(probability, label, weights)
    rate, weight = ordered.bins(ECE_BINS, ordered.label)
    said, _ = ordered.bins(ECE_BINS, np.broadcast_to(ordered.score, ordered.weight.shape))
    return said, rate, weight


def ece(probability: Floats, label: Floats, weights: Floats) -> Floats:
    """Expected calibration error over the bins of `reliability` (arXiv 1706.04599)."""
    said, rate, weight = reliability(probability, label, weights)
    return np.asarray((abs(rate - said) * weight).sum(1) / weight.sum(1))


def brier(probability: Floats, label: Floats, weights: Floats) -> Floats:
    """Mean squared difference of probability and label."""
    return np.asarray(weights @ (probability - label) ** 2 / weights.sum(1))


def isotonic(score: Floats, label: Floats, asked: Floats) -> Floats:
    """Probabilities (N,) for scores `asked`, by isotonic regression of labels on scores (Q,)."""
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(score, label)
    return np.asarray(model.predict(asked), np.float64)


def conformal_depths(
    score: Floats, depth: Floats, asked: Floats, miss: float, groups: int
) -> Floats:
    """Split conformal depths (N,) at which lists miss the target at a rate of at most `miss`.

    Queries are grouped by score into groups of equal mass, each with its own depth: the more
    confident a group, the shorter its lists may be (Mondrian conformal prediction, Vovk et al.
    2005).

    Args:
        score, depth: scores of the queries to fit on, and the depths of their targets, (Q,) each;
            infinite if the target is missing.
        asked: scores (N,) of the queries to predict depths for.
        groups: number of groups; there are fewer if scores are tied.

    Returns:
        Depths; infinite if no depth is sufficient.
    """
    edges = np.unique(np.quantile(score, np.linspace(0, 1, groups + 1)[1:-1]))
    own, place = np.searchsorted(edges, score), np.searchsorted(edges, asked)
    needed = np.full(len(edges) + 1, np.inf)
    for group in range(len(needed)):
        depths = np.sort(depth[own == group])
        rank = int(np.ceil((len(depths) + 1) * (1 - miss))) - 1
        if rank < len(depths):
            needed[group] = depths[rank]
    return needed[place]


def _correlation(bins: Floats) -> Floats:
    """Pearson correlation of rows (B, N) with -1 to -N; 0 for a constant row."""
    centred, own = bins - bins.mean(1, keepdims=True), -np.arange(bins.shape[1], dtype=np.float64)
    own -= own.mean()
    norms = np.sqrt((centred**2).sum(1) * (own**2).sum())
    return np.asarray(centred @ own / np.where(norms < 1e-12, np.inf, norms))


def _ranks(rows: Floats) -> Floats:
    """Ranks within each row (B, N); ties get their mean rank."""
    less = (rows[:, None, :] < rows[:, :, None]).sum(2)
    equal = (rows[:, None, :] == rows[:, :, None]).sum(2)
    return np.asarray(less + (equal - 1) / 2)
