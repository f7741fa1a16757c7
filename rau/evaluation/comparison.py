"""Two methods' rankings of the same queries: paired differences, and the queries that changed most.

A difference is A - B. Pairs consist of ranked rows: a row is a query under a protocol in one order
of its captions. The rows of a query are resampled together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from numpy.typing import NDArray

from rau.errors import UserError
from rau.evaluation.bootstrap import MEAN, Difference, holm, paired_differences
from rau.evaluation.composition import measure as measure_composition
from rau.evaluation.ranked_side import IMAGES, MEASURED, PAIRED_BY, Side
from rau.evaluation.run_metrics import Composition
from rau.retrieval.metrics import MISSING, Values, from_ranks, summarise
from rau.schemas import RankingRow

# A query without a rank counts as this many times the worst rank of its category.
BEYOND = 10
# The metric of the composition, the first that all rows have, and the resamples of its intervals.
HEADLINES, RESAMPLES = ("mean_of_r5_rs1", "mean_of_r10_r50", "recall_at_10"), 1000


@dataclass(frozen=True)
class Pairs:
    """Rows of both sides under one protocol, row i of `a` with row i of `b`.

    Columns are `PAIRED_BY`, `IMAGES`, `MEASURED` and `place`, the row's position in its side's
    table. `left_out` rows are in neither: their images are missing, and the run of a side excludes
    such rows. `keys` are the numbered `PAIRED_BY` of the rows.
    """

    protocol: str
    a: pd.DataFrame
    b: pd.DataFrame
    keys: pd.Index
    left_out: int = 0


@dataclass(frozen=True)
class Cell:
    """The means of a metric on both sides, in percent, and their difference with its interval.

    `holm` is the p-value adjusted for the metrics of its protocol; None outside the mean.
    """

    a: float
    b: float
    difference: Difference
    holm: float | None


@dataclass(frozen=True)
class Change:
    """A query's row on both sides; `log_ratio` is ln(rank in B / rank in A)."""

    a: RankingRow
    b: RankingRow
    log_ratio: float


@dataclass(frozen=True)
class Compared:
    """The comparison under one protocol.

    Attributes:
        queries: number of queries by category.
        unranked: number of rows without a rank on one side or both; they count as misses.
        left_out: number of rows that do not count, because their images are missing.
        cells: by category and metric, the mean over categories first. A single category is its own
            mean and is not repeated.
        composition: the methods of A and of B, each compared with the single modalities of its own
            run; None if its file does not have them.
        gained: queries that A ranks better, the largest change first.
        lost: queries that A ranks worse, the largest change first.
    """

    protocol: str
    queries: Mapping[str, int]
    unranked: int
    left_out: int
    cells: Mapping[str, Mapping[str, Cell]]
    composition: tuple[Composition | None, Composition | None]
    gained: Sequence[Change]
    lost: Sequence[Change]


@dataclass(frozen=True)
class Comparison:
    """The whole comparison; `left_out` are protocols that only one side has."""

    a: Side
    b: Side
    resamples: int
    protocols: Sequence[Compared]
    left_out: Sequence[str]

    @property
    def changes(self) -> list[Change]:
        """The changes under all protocols."""
        return [one for done in self.protocols for one in (*done.gained, *done.lost)]


def pair(a: Side, b: Side) -> tuple[list[Pairs], list[str]]:
    """Pair the rows of both sides by protocol, category, query and text.

    Returns:
        The pairs under every common protocol, and the names of the other protocols.

    Raises:
        UserError: when there is no common protocol, the sides are of different data sets or ranked
            different queries, or a category has no query left.
    """
    sides = f"A, {a.name}, and B, {b.name},"
    data = (a.metadata.dataset, b.metadata.dataset)
    if None not in data and data[0] != data[1]:
        raise UserError(
            f"{sides} are of different data sets ({data[0]}; {data[1]}); compare runs of the same "
            "data set"
        )
    names = [side.rows["protocol"].unique().to_pylist() for side in (a, b)]
    shared = [name for name in names[0] if name in names[1]]
    if not shared:
        raise UserError(
            f"{sides} have no protocol in common ({', '.join(names[0])}; {', '.join(names[1])}); "
            "evaluate both under the same one"
        )
    ours, theirs = (_rows(side, shared) for side in (a, b))
    # Each caption order is a row, so rows are counted here.
    only = [len(x.index.difference(y.index)) for x, y in ((ours, theirs), (theirs, ours))]
    if any(only):
        raise UserError(
            f"{sides} did not rank the same queries: {only[0]} rows are only in A and {only[1]} "
            "only in B; compare runs of the same data set"
        )
    moved = (ours[IMAGES].fillna("") != theirs[IMAGES].fillna("")).any(axis=1).sum()
    if moved:
        raise UserError(
            f"{sides} have different references or targets in {moved} of their rows; "
            "compare runs of the same data set"
        )
    kept = ~(ours["left_out"] | theirs["left_out"])
    found = []
    for protocol in shared:
        own = ours["protocol"] == protocol
        empty = {*ours["category"][own]} - {*ours["category"][own & kept]}
        if empty:
            raise UserError(
                f"{sides} have no query of {', '.join(sorted(empty))} that has its images; "
                "complete the images or set evaluate.unusable=miss"
            )
        rows = [side[own & kept].reset_index(drop=True) for side in (ours, theirs)]
        keys = ours.index[own & kept]
        found.append(Pairs(protocol, rows[0], rows[1], keys, int((own & ~kept).sum())))
    return found, sorted({*names[0]} ^ {*names[1]})


def _rows(side: Side, protocols: Sequence[str]) -> pd.DataFrame:
    """Rows of these protocols, sorted; rows equal in all of `PAIRED_BY` are numbered."""
    rows: pd.DataFrame = side.rows.select([*PAIRED_BY, *IMAGES, *MEASURED]).to_pandas()
    listed = pc.fill_null(pc.list_value_length(side.rows["top"]), 0).to_numpy() > 0
    rows["left_out"] = ~listed & (side.metadata.unusable == "leave_out")
    rows["place"] = np.arange(len(rows))
    number = rows.groupby(PAIRED_BY, dropna=False).cumcount()
    rows.index = pd.MultiIndex.from_frame(rows[PAIRED_BY].assign(number=number))
    return rows[rows["protocol"].isin(protocols)].sort_index()


def measured(rows: pd.DataFrame) -> Values:
    """Every metric of R rows of one category, shape (R,); a row without a rank is a miss."""
    ranks = rows[MEASURED[:2]].fillna(MISSING).to_numpy(np.int64)
    subset = ranks[:, 1] if (ranks[:, 1] != MISSING).any() else None
    precision = rows["average_precision"]
    known: dict[int | None, NDArray[np.float64]] = {}
    if not precision.isna().all():
        known[None] = precision.fillna(0).to_numpy(np.float64)
    values = from_ranks(ranks[:, 0], subset, known)
    if subset is not None:
        # CIRR's own headline stands in place of FashionIQ's.
        del values["mean_of_r10_r50"]
    return values


def measure(pairs: Pairs, resamples: int) -> dict[str, dict[str, Cell]]:
    """Paired differences by category and metric, the mean over categories first.

    A metric that is missing on one side or in one category is left out.

    Args:
        resamples: of the bootstrap, at least 1.
    """
    a, b, clusters = _by_category(pairs.a), _by_category(pairs.b), _clusters(pairs.a)
    found = paired_differences(a, b, clusters, resamples)
    adjusted = dict(zip(found[MEAN], holm([one.p for one in found[MEAN].values()]), strict=True))
    means = summarise(a), summarise(b)
    return {
        category: {
            name: Cell(
                means[0][category][name],
                means[1][category][name],
                one,
                adjusted[name] if category == MEAN else None,
            )
            for name, one in found[category].items()
        }
        for category in (MEAN, *(sorted(clusters) if len(clusters) > 1 else []))
    }


def composition_of(side: Side, pairs: Pairs, rows: pd.DataFrame) -> Composition | None:
    """A side's method compared with the single modalities of its run; None without them.

    Args:
        rows: the side's own rows in `pairs`.
    """
    single = {
        method: _rows(replace(side, rows=table), [pairs.protocol])
        for method, table in side.single.items()
    }
    if not single or not all(pairs.keys.isin(own.index).all() for own in single.values()):
        return None
    values = {side.method: _by_category(rows)} | {
        method: _by_category(own.loc[pairs.keys].reset_index(drop=True))
        for method, own in single.items()
    }
    reference, caption = single
    known = [metrics for one in values.values() for metrics in one.values()]
    metric = next(name for name in HEADLINES if all(name in metrics for metrics in known))
    return measure_composition(values, _clusters(rows), (reference, caption), metric, RESAMPLES)


def _by_category(rows: pd.DataFrame) -> dict[str, Values]:
    return {str(category): measured(own) for category, own in rows.groupby("category")}


def _clusters(rows: pd.DataFrame) -> dict[str, NDArray[np.int64]]:
    """Index of the query of each row, by category."""
    return {
        str(category): pd.factorize(own["query_id"])[0].astype(np.int64)
        for category, own in rows.groupby("category")
    }


def changes(pairs: Pairs, a: Side, b: Side, count: int) -> tuple[list[Change], list[Change]]:
    """The queries whose target's rank changed most, by the logarithm: gained by A, and lost.

    A query is represented by that of its rows that changed most. A row without a rank counts as
    `BEYOND` times the worst rank of either side in its category.

    Args:
        count: maximum number of each.
    """
    worst = pd.concat([pairs.a, pairs.b]).groupby("category")["target_rank"].max().fillna(1)
    beyond = BEYOND * pairs.a["category"].map(worst)
    ranks = [side["target_rank"].astype(np.float64).fillna(beyond) for side in (pairs.a, pairs.b)]
    ratio = np.log(ranks[1] / ranks[0])
    query = ["category", "query_id"]
    rows = pairs.a[query].assign(a=pairs.a["place"], b=pairs.b["place"], ratio=ratio)
    rows = rows.assign(size=np.abs(ratio))
    rows = rows.sort_values(["size", *query], ascending=[False, True, True], kind="stable")
    rows = rows.drop_duplicates(query)

    def whole(chosen: pd.DataFrame) -> list[Change]:
        columns = (chosen[name].head(count) for name in ("a", "b", "ratio"))
        return [Change(a.row(x), b.row(y), r) for x, y, r in zip(*columns, strict=True)]

    return whole(rows[rows["ratio"] > 0]), whole(rows[rows["ratio"] < 0])


def compare(a: Side, b: Side, resamples: int, count: int) -> Comparison:
    """Differences A - B under every protocol that both have.

    Args:
        resamples: of the bootstrap, at least 1.
        count: maximum number of gained and of lost queries under every protocol.

    Raises:
        UserError: when both are the same, or ranked different queries.
    """
    if (a.name, a.method) == (b.name, b.method):
        raise UserError(
            f"A and B are both '{a.method}' of {a.name}; name another run, or a method of it with "
            "--method-b"
        )
    paired, left_out = pair(a, b)
    done = []
    for pairs in paired:
        ids = pairs.a.groupby("category")["query_id"]
        queries = {str(category): count for category, count in ids.nunique().items()}
        unranked = int((pairs.a["target_rank"].isna() | pairs.b["target_rank"].isna()).sum())
        cells = measure(pairs, resamples)
        composed = composition_of(a, pairs, pairs.a), composition_of(b, pairs, pairs.b)
        changed = changes(pairs, a, b, count)
        done.append(
            Compared(pairs.protocol, queries, unranked, pairs.left_out, cells, composed, *changed)
        )
    return Comparison(a, b, resamples, done, left_out)
