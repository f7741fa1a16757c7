"""The queries that a report shows: successes, near misses and failures, evenly spaced."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

from rau.report.html import embed, jpeg
from rau.report.image_strips import Strip, thumbnail
from rau.schemas import ImageRow, ManifestRow, QueryRow, RankingRow

Item = TypeVar("Item")
SHOWN = 10
RESULTS: Mapping[str, Callable[[int | None], bool]] = {
    "success": lambda rank: rank == 1,
    "near miss": lambda rank: rank is not None and 2 <= rank <= 10,
    "failure": lambda rank: rank is None or rank > 50,
}


@dataclass(frozen=True)
class Ranked:
    """An image of a ranked list, as JPEG in base64; `score` is None if unknown.

    `kind` is `target`, `right` for another correct answer, or empty; `words` is its label.
    """

    image_id: str
    data: str
    score: float | None
    kind: str
    words: str


@dataclass(frozen=True)
class Example:
    """A query with the first images of its ranked list.

    Attributes:
        result: of `RESULTS`.
        rank: the rank of the target; None if it has none.
        reference: JPEG in base64.
        right: number of correct answers in `top`; None if only the target is known.
    """

    query_id: str
    category: str
    text: str
    result: str
    rank: int | None
    uncertainty: float | None
    reference: str
    top: Sequence[Ranked]
    right: int | None = None


def image_paths(root: Path, images: Iterable[ManifestRow | ImageRow]) -> dict[str, Path]:
    """Files of the usable images by id; `root` is the folder of the data set."""
    return {
        row["image_id"]: root / row["path"]
        for row in images
        if row["path"] is not None and row["status"] == "ok"
    }


def relevant_answers(queries: Iterable[QueryRow]) -> dict[str, Sequence[str]]:
    """Correct answers by query id, for queries whose correct answers are known."""
    return {q["query_id"]: q["relevant"] for q in queries if q["relevant"] is not None}


def evenly(rows: Sequence[RankingRow], count: int) -> list[RankingRow]:
    """At most `count` rows, evenly spaced."""
    if len(rows) <= count:
        return list(rows)
    return [rows[(2 * place + 1) * len(rows) // (2 * count)] for place in range(count)]


def shown_images(row: RankingRow) -> set[str]:
    """Ids of the images that are shown for a row."""
    return {row["reference_id"], *row["top"][:SHOWN]}


def choose(
    rankings: Sequence[RankingRow], paths: Mapping[str, Path], count: int
) -> dict[str, list[RankingRow]]:
    """Rows to show, by result.

    Args:
        rankings: of one method under one protocol; queries that were not ranked are not shown.
        paths: image files by id; queries with images missing from it are not shown.
        count: maximum number of rows per result.
    """
    whole = [row for row in rankings if row["top"] and paths.keys() >= shown_images(row)]
    return {
        result: evenly([row for row in whole if belongs(row["target_rank"])], count)
        for result, belongs in RESULTS.items()
    }


def mixed(
    chosen: Mapping[str, Sequence[RankingRow]],
    paths: Mapping[str, Path],
    relevant: Mapping[str, Sequence[str]],
) -> list[Example]:
    """The chosen rows with their images, alternating over results, and over categories within."""
    by_result = []
    for result, rows in chosen.items():
        categories: dict[str, list[tuple[str, RankingRow]]] = {}
        for row in rows:
            categories.setdefault(row["category"], []).append((result, row))
        by_result.append(_in_turn(categories.values()))
    return [example(row, result, paths, relevant) for result, row in _in_turn(by_result)]


def _in_turn(lists: Iterable[Sequence[Item]]) -> list[Item]:
    """The first item of each list, then the second of each, and so on."""
    return [one for turn in zip_longest(*lists) for one in turn if one is not None]


def example(
    row: RankingRow,
    result: str,
    paths: Mapping[str, Path],
    relevant: Mapping[str, Sequence[str]],
) -> Example:
    """A row of the rankings with its images."""
    top = ranked_list(row, paths, relevant)
    known = row["query_id"] in relevant
    return Example(
        row["query_id"],
        row["category"],
        row["text"],
        result,
        row["target_rank"],
        row["uncertainty"],
        thumbnail_data(paths[row["reference_id"]]),
        top,
        sum(bool(one.kind) for one in top) if known else None,
    )


def ranked_list(
    row: RankingRow, paths: Mapping[str, Path], relevant: Mapping[str, Sequence[str]]
) -> list[Ranked]:
    """The first images of a row, with the correct ones marked if known."""
    right = relevant.get(row["query_id"], ())
    found = []
    for name, score in zip_longest(row["top"][:SHOWN], row.get("scores", [])[:SHOWN]):
        kind = "target" if name == row["target_id"] else "right" if name in right else ""
        words = "correct" if kind == "right" else kind
        found.append(Ranked(name, thumbnail_data(paths[name]), score, kind, words))
    return found


def thumbnail_data(path: Path) -> str:
    """A small JPEG of an image in base64; grey if it cannot be read."""
    return embed(jpeg(thumbnail(path)))


def row_strip(
    row: RankingRow, paths: Mapping[str, Path], relevant: Mapping[str, Sequence[str]]
) -> Strip:
    """The image strip of a row of the rankings; arguments as in `mixed`."""
    top = row["top"][:SHOWN]
    true = relevant.get(row["query_id"], ())
    return Strip(
        reference=paths[row["reference_id"]],
        caption=row["text"],
        ranked=[paths[name] for name in top],
        target_at=top.index(row["target_id"]) if row["target_id"] in top else None,
        relevant_at=frozenset(i for i, name in enumerate(top) if name in true),
    )
