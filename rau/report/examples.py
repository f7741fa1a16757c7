"""The queries that a report shows: successes, near misses and failures, evenly spread."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from rau.report.image_strips import Strip, draw
from rau.schemas import ImageRow, ManifestRow, QueryRow, RankingRow

SHOWN = 10
GROUPS: Mapping[str, Callable[[int | None], bool]] = {
    "Successes: the target comes first": lambda rank: rank == 1,
    "Near misses: the target is second to tenth": lambda rank: rank is not None and 2 <= rank <= 10,
    "Failures: the target is not among the first 50": lambda rank: rank is None or rank > 50,
}


def image_paths(root: Path, images: Iterable[ManifestRow | ImageRow]) -> dict[str, Path]:
    """Files of the images that are usable, by id; `root` is the folder of the data set."""
    return {
        row["image_id"]: root / row["path"]
        for row in images
        if row["path"] is not None and row["status"] == "ok"
    }


def relevant_answers(queries: Iterable[QueryRow]) -> dict[str, Sequence[str]]:
    """Correct answers by query id, of the queries for which they are known."""
    return {q["query_id"]: q["relevant"] for q in queries if q["relevant"] is not None}


def evenly(rows: Sequence[RankingRow], count: int) -> list[RankingRow]:
    """At most `count` rows at equal distances."""
    step = max(1, len(rows) // count)
    return list(rows[step // 2 :: step][:count])


def shown_images(row: RankingRow) -> set[str]:
    """Ids of the images on a row's strip."""
    return {row["reference_id"], *row["top"][:SHOWN]}


def row_strip(
    row: RankingRow, paths: Mapping[str, Path], relevant: Mapping[str, Sequence[str]]
) -> Strip:
    """The strip of a row of the rankings; arguments as in `groups`."""
    top = row["top"][:SHOWN]
    true = relevant.get(row["query_id"], ())
    return Strip(
        reference=paths[row["reference_id"]],
        caption=row["text"],
        ranked=[paths[name] for name in top],
        target_at=top.index(row["target_id"]) if row["target_id"] in top else None,
        relevant_at=frozenset(i for i, name in enumerate(top) if name in true),
    )


def groups(
    rankings: Sequence[RankingRow],
    paths: Mapping[str, Path],
    relevant: Mapping[str, Sequence[str]],
    count: int,
) -> dict[str, list[tuple[str, Image.Image]]]:
    """Strips with captions by group.

    Args:
        rankings: rows of one method under one protocol.
        paths: image files by id; a query with an image that is missing there is not shown.
        relevant: correct answers by query id, where they are known.
        count: maximum number of strips per group.
    """
    shown: dict[str, list[tuple[str, Image.Image]]] = {}
    for title, belongs in GROUPS.items():
        rows = [
            row
            for row in rankings
            if belongs(row["target_rank"]) and shown_images(row) <= set(paths)
        ]
        strips = []
        for row in evenly(rows, count):
            strip = row_strip(row, paths, relevant)
            rank = row["target_rank"] or "none"
            strips.append((f"{row['query_id']}: rank of the target {rank}", draw(strip)))
        if strips:
            shown[title] = strips
    return shown
