"""Two methods' rankings of the same queries: paired differences, and the queries that changed most.

A difference is A less B. What is paired is a ranked row: a query under a protocol in one order of
its captions; the rows of one query are resampled together.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rau.errors import UserError
from rau.evaluation.bootstrap import MEAN, Difference, differences, holm
from rau.models.baselines import untrained
from rau.models.methods import METHODS
from rau.retrieval.metrics import Values, per_query, stack, summarise
from rau.retrieval.ranking import MISSING, Ranking
from rau.schemas import RANKINGS, RankingsMetadata, read_parquet

MAX_BYTES = 2 * 2**30
BOOTSTRAP_SEED = 0
# A query without a rank counts as this many times the worst rank of its category.
BEYOND = 10
UNKNOWN = RankingsMetadata()
NEEDED = (
    "query_id",
    "method",
    "protocol",
    "category",
    "text",
    "reference_id",
    "target_id",
    "target_rank",
    "subset_rank",
    "average_precision",
    "uncertainty",
    "top",
)
Row = Mapping[str, Any]
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Side:
    """One method's rows of a rankings table, columns `NEEDED`; `name` is the user's word for it."""

    name: str
    method: str
    rows: pa.Table
    facts: RankingsMetadata = UNKNOWN


@dataclass(frozen=True)
class Pairs:
    """Rows of both sides under one protocol, row i of `a` with row i of `b`; without `top`.

    `place` of a row is its place in its side's table. `left_out` rows are in neither: they lack
    their images on a side whose run leaves such rows out.
    """

    protocol: str
    a: list[Row]
    b: list[Row]
    left_out: int = 0


@dataclass(frozen=True)
class Cell:
    """A metric's means on both sides, in percent, and their difference with its interval.

    `holm` is the p-value adjusted for the metrics of its protocol; None outside the mean.
    """

    a: float
    b: float
    difference: Difference
    holm: float | None


@dataclass(frozen=True)
class Change:
    """A query's row on both sides, with `top`; `log_ratio` is ln(rank in B / rank in A)."""

    a: Row
    b: Row
    log_ratio: float


@dataclass(frozen=True)
class Compared:
    """One protocol.

    Attributes:
        queries: how many, by category.
        unranked: rows that have no rank on one side or both; they count as misses.
        left_out: rows that do not count, as they lack their images.
        cells: by category and metric, the mean over categories first. A single category is its own
            mean and is not there twice.
        gained: what A ranks better, the largest change first.
        lost: what A ranks worse, the largest change first.
    """

    protocol: str
    queries: Mapping[str, int]
    unranked: int
    left_out: int
    cells: Mapping[str, Mapping[str, Cell]]
    gained: Sequence[Change]
    lost: Sequence[Change]

    @property
    def metrics(self) -> list[str]:
        """In order."""
        return list(self.cells[MEAN])


@dataclass(frozen=True)
class Comparison:
    """Everything compared; `left_out` are protocols that only one side has."""

    a: Side
    b: Side
    resamples: int
    protocols: Sequence[Compared]
    left_out: Sequence[str]

    @property
    def changes(self) -> list[Change]:
        """Those of every protocol."""
        return [one for done in self.protocols for one in (*done.gained, *done.lost)]


def read_side(name: str, path: Path, method: str | None) -> Side:
    """Rows of one method of a rankings file, and what it says of its run.

    Args:
        method: None for the one that the run is about; a file that does not say it has it guessed.

    Raises:
        UserError: when the file is missing, too large, no rankings table or lacks the method.
    """
    remedy = "name a file that stage evaluate wrote"
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        raise UserError(f"{name}: {path} is larger than {MAX_BYTES} bytes; {remedy}")
    table = read_parquet(path, remedy)
    lacking = [column for column in NEEDED if column not in table.schema.names]
    if lacking:
        raise UserError(f"{name}: {path} lacks the columns {', '.join(lacking)}; {remedy}")
    try:
        rows = table.select(NEEDED).cast(pa.schema([RANKINGS.field(column) for column in NEEDED]))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"{name}: {path} has columns of other types ({error}); {remedy}") from error
    try:
        facts = RankingsMetadata.of(table.schema.metadata or {})
    except ValueError as error:
        raise UserError(f"{name}: {path} has odd metadata ({error}); {remedy}") from error
    methods = rows["method"].unique().to_pylist()
    chosen = facts.method or trained(name, methods) if method is None else method
    if chosen not in methods:
        raise UserError(f"{name} has no method '{chosen}'; choose from {', '.join(methods)}")
    kept = pc.equal(rows["method"], chosen)
    return Side(name, chosen, rows.filter(kept).combine_chunks(), facts)


def trained(name: str, methods: Sequence[str]) -> str:
    """The method that a run is about: the one that was trained, and with two not the reference.

    Raises:
        UserError: when that leaves none or several.
    """
    names = {*untrained(0.5, None)}
    left = [m for m in methods if m.removesuffix(" (ridge map)") not in names]
    if len(left) > 1:
        left = [m for m in left if m != METHODS["deterministic"].label]
    if len(left) != 1:
        raise UserError(
            f"{name} does not say which method to compare; name one of {', '.join(methods)} "
            "with --method-a or --method-b"
        )
    return left[0]


def pair(a: Side, b: Side) -> tuple[list[Pairs], list[str]]:
    """Pair the rows of both sides by protocol, category, query and text.

    Returns:
        The pairs of every protocol that both have, and the other protocols' names.

    Raises:
        UserError: when there is no such protocol, the two are of different data sets or ranked
            other queries, or none of a category is left.
    """
    data = [side.facts.dataset for side in (a, b)]
    sides = f"A, {a.name}, and B, {b.name},"
    if None not in data and data[0] != data[1]:
        raise UserError(
            f"{sides} are of different data sets ({data[0]}; {data[1]}); compare runs of the same "
            "data set"
        )
    ours, theirs = _by_key(a), _by_key(b)
    names = [list(dict.fromkeys(key[0] for key in side)) for side in (ours, theirs)]
    shared = [name for name in names[0] if name in names[1]]
    if not shared:
        raise UserError(
            f"{sides} have no protocol in common ({', '.join(names[0])}; {', '.join(names[1])}); "
            "evaluate both under the same one"
        )
    # An order of the captions is a row, so rows are what is counted here.
    only = [
        sum(key[0] in shared and key not in other for key in side)
        for side, other in ((ours, theirs), (theirs, ours))
    ]
    if any(only):
        raise UserError(
            f"{sides} did not rank the same queries: {only[0]} rows are only in A and {only[1]} "
            "only in B; compare runs of the same data set"
        )
    moved = sum(_images(row) != _images(theirs[key]) for key, row in ours.items() if key in theirs)
    if moved:
        raise UserError(
            f"{sides} give {moved} of their rows different references or targets; "
            "compare runs of the same data set"
        )
    found = [_paired(protocol, ours, theirs, sides) for protocol in shared]
    return found, sorted(set(names[0]) ^ set(names[1]))


def _paired(protocol: str, ours: Mapping[Key, Row], theirs: Mapping[Key, Row], sides: str) -> Pairs:
    keys = sorted(key for key in ours if key[0] == protocol)
    kept = [key for key in keys if not (ours[key]["left_out"] or theirs[key]["left_out"])]
    empty = {key[1] for key in keys} - {key[1] for key in kept}
    if empty:
        raise UserError(
            f"{sides} have no query of {', '.join(sorted(empty))} that has its images; complete "
            "the images or set evaluate.unusable=miss"
        )
    rows = [[side[key] for key in kept] for side in (ours, theirs)]
    return Pairs(protocol, rows[0], rows[1], len(keys) - len(kept))


def _by_key(side: Side) -> dict[Key, Row]:
    """Rows by what they are paired by; rows that are the same in all of it are numbered."""
    leaves = side.facts.unusable == "leave_out"
    lengths = pc.list_value_length(side.rows["top"]).to_pylist()
    seen: Counter[Key] = Counter()
    rows: dict[Key, Row] = {}
    for place, row in enumerate(side.rows.drop_columns(["top"]).to_pylist()):
        key = (row["protocol"], row["category"], row["query_id"], row["text"])
        rows[*key, seen[key]] = row | {"place": place, "left_out": leaves and not lengths[place]}
        seen[key] += 1
    return rows


def _images(row: Row) -> tuple[str, str]:
    return row["reference_id"], row["target_id"]


def measured(rows: Sequence[Row]) -> Values:
    """Every metric of R rows of one category, (R,) each; a row without a rank is a miss."""
    subset = _ranks(rows, "subset_rank")
    precision = np.array([row["average_precision"] or 0.0 for row in rows])
    known = any(row["average_precision"] is not None for row in rows)
    lists = np.zeros((len(rows), 0))
    ranking = Ranking(
        target_rank=_ranks(rows, "target_rank"),
        subset_rank=subset if (subset != MISSING).any() else None,
        subset_top=None,
        top=lists.astype(np.int64),
        scores=lists.astype(np.float32),
        average_precision={None: precision} if known else {},
        r_precision=None,
    )
    values = per_query(ranking)
    if "mean_of_r5_rs1" in values:
        # CIRR's own headline stands in place of FashionIQ's.
        del values["mean_of_r10_r50"]
    return values


def _ranks(rows: Sequence[Row], column: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([row[column] or MISSING for row in rows], dtype=np.int64)


def _by_category(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["category"]].append(row)
    return dict(found)


def measure(pairs: Pairs, resamples: int) -> dict[str, dict[str, Cell]]:
    """Paired differences by category and metric, the mean over categories first.

    A metric that one side or one category lacks is left out.

    Args:
        resamples: of the bootstrap, at least 1.
    """
    rows = _by_category(pairs.a)
    values = [
        {category: measured(own) for category, own in _by_category(side).items()}
        for side in (pairs.a, pairs.b)
    ]
    means = [summarise(side) for side in values]
    names = [name for name in means[0][MEAN] if name in means[1][MEAN]]
    clusters = {
        category: np.unique([row["query_id"] for row in own], return_inverse=True)[1]
        for category, own in rows.items()
    }
    columns = [{c: stack(value, names) for c, value in side.items()} for side in values]
    found = differences(columns[0], columns[1], clusters, resamples, BOOTSTRAP_SEED)
    adjusted = dict(zip(names, holm([one.p for one in found[MEAN]]), strict=True))
    categories = [MEAN, *(sorted(rows) if len(rows) > 1 else [])]
    return {
        category: {
            name: Cell(
                means[0][category][name],
                means[1][category][name],
                one,
                adjusted[name] if category == MEAN else None,
            )
            for name, one in zip(names, found[category], strict=True)
        }
        for category in categories
    }


def changes(pairs: Pairs, a: Side, b: Side, count: int) -> tuple[list[Change], list[Change]]:
    """The queries whose target's rank changed most, by the logarithm: gained by A, and lost.

    Of a query's rows the one that changed most stands for it. A row without a rank is taken to
    have one `BEYOND` times the worst that either side gives in its category.

    Args:
        count: at most so many of each.
    """
    worst: dict[str, int] = defaultdict(lambda: 1)
    for row in (*pairs.a, *pairs.b):
        worst[row["category"]] = max(worst[row["category"]], row["target_rank"] or 1)
    largest: dict[Key, tuple[float, Row, Row]] = {}
    for ours, theirs in zip(pairs.a, pairs.b, strict=True):
        beyond = BEYOND * worst[ours["category"]]
        ratio = math.log((theirs["target_rank"] or beyond) / (ours["target_rank"] or beyond))
        key = (ours["category"], ours["query_id"])
        if key not in largest or abs(ratio) > abs(largest[key][0]):
            largest[key] = (ratio, ours, theirs)
    order = sorted(largest, key=lambda key: (-abs(largest[key][0]), key))
    ordered = [largest[key] for key in order]
    gained = [one for one in ordered if one[0] > 0][:count]
    lost = [one for one in ordered if one[0] < 0][:count]

    def whole(found: Iterable[tuple[float, Row, Row]]) -> list[Change]:
        return [Change(_with_top(x, a), _with_top(y, b), ratio) for ratio, x, y in found]

    return whole(gained), whole(lost)


def _with_top(row: Row, side: Side) -> Row:
    """Lists are long, so they are read for the rows that are shown only."""
    return {**row, "top": side.rows["top"][row["place"]].as_py() or []}


def compare(a: Side, b: Side, resamples: int, count: int) -> Comparison:
    """Differences A less B under every protocol that both have.

    Args:
        resamples: of the bootstrap, at least 1.
        count: how many changed queries each way, for every protocol.

    Raises:
        UserError: when both are the same, or ranked other queries.
    """
    if (a.name, a.method) == (b.name, b.method):
        raise UserError(
            f"A and B are both '{a.method}' of {a.name}; name another run, or a method of it with "
            "--method-b"
        )
    paired, left_out = pair(a, b)
    done = []
    for pairs in paired:
        gained, lost = changes(pairs, a, b, count)
        ids = {c: len({r["query_id"] for r in rows}) for c, rows in _by_category(pairs.a).items()}
        both = zip(pairs.a, pairs.b, strict=True)
        unranked = sum(None in (x["target_rank"], y["target_rank"]) for x, y in both)
        cells = measure(pairs, resamples)
        out = pairs.left_out
        done.append(Compared(pairs.protocol, ids, unranked, out, cells, gained, lost))
    return Comparison(a, b, resamples, done, left_out)
