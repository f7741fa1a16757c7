"""FashionIQ's official layout, read into tables.

Layout: `captions/cap.<category>.<split>.json`, `image_splits/split.<category>.<split>.json`,
`images/<id>.jpg|png`, and optionally `relevance.parquet`
(https://github.com/XiaoxiaoGuo/fashion-iq). Counts are those of the files; nothing is assumed.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from rau.datasets.annotations import Annotations, are_strings, check_entry, check_listed, entries
from rau.datasets.manifest import SUFFIXES, check_image_id
from rau.errors import UserError
from rau.files import read_json
from rau.schemas import RELEVANCE, QueryRow, ends, read_parquet

SPLITS = ("train", "val", "test")
CAPTIONS = re.compile(r"cap\.(?P<category>[^.]+)\.(?P<split>train|val|test)\.json")
Relevance = dict[tuple[str, str, int], dict[str, Any]]


def _present(root: Path) -> Iterator[tuple[str, str, Path]]:
    named = [(CAPTIONS.fullmatch(path.name), path) for path in root.glob("captions/cap.*.json")]
    if strange := [path for match, path in named if match is None]:
        raise UserError(f"{strange[0]} is not named cap.<category>.<train|val|test>.json")
    found = [(m["category"], m["split"], path) for m, path in named if m is not None]
    yield from sorted(found, key=lambda row: (SPLITS.index(row[1]), row[0]))


def _ids(path: Path) -> list[str]:
    ids = read_json(path, "split file")
    if not are_strings(ids):
        raise UserError(f"split file {path} is not a list of image ids")
    return list(dict.fromkeys(ids))


def _query(entry: Any, where: str, category: str, split: str, row: int) -> QueryRow:
    strings = ["candidate"] + ([] if split == "test" else ["target"])
    check_entry(entry, where, strings, ["captions"])
    captions = entry["captions"]
    if not captions or not are_strings(captions):
        raise UserError(f"{where}: 'captions' is not a list of strings")
    return {
        "query_id": f"{category}-{split}-{row}",
        "split": split,
        "category": category,
        "reference_id": entry["candidate"],
        "target_id": entry.get("target"),
        "captions": captions,
        "members": None,
        "relevant": None,
    }


def read_annotations(root: Path) -> Annotations:
    """Read captions, split files and, if it exists, the relevance file.

    Galleries: `original` is the split file of val, `val-union` the references and targets of val.

    Raises:
        UserError: no captions, missing keys, or an id that its split file does not list.
    """
    splits: dict[tuple[str, str], list[str]] = {}
    queries: list[QueryRow] = []
    for category, split, path in _present(root):
        ids = _ids(root / "image_splits" / f"split.{category}.{split}.json")
        splits[category, split] = ids
        known = set(ids)
        for row, entry in enumerate(entries(path)):
            where = f"{path}, row {row}"
            query = _query(entry, where, category, split, row)
            check_listed(query, where, {"candidate": "reference_id", "target": "target_id"}, known)
            queries.append(query)
    if not queries:
        raise UserError(f"{root} holds no captions/cap.<category>.<split>.json; check dataset.root")
    relevance_path = root / "relevance.parquet"
    if relevance_path.exists():
        _attach_relevance(queries, splits, relevance_path)
    return Annotations(splits, queries, _galleries(splits, queries), _places)


def _places(image_id: str) -> list[str]:
    return [f"images/{check_image_id(image_id)}{suffix}" for suffix in SUFFIXES]


def _galleries(
    splits: dict[tuple[str, str], list[str]], queries: list[QueryRow]
) -> dict[str, dict[str, list[str]]]:
    original = {c: sorted(ids) for (c, s), ids in splits.items() if s == "val"}
    union: dict[str, set[str]] = {category: set() for category in original}
    for query in queries:
        if query["split"] == "val":
            union[query["category"]] |= set(ends(query))
    return {"original": original, "val-union": {c: sorted(ids) for c, ids in union.items()}}


def annotation_files(root: Path) -> list[Path]:
    """Captions, split files and truth, in a fixed order."""
    found = [*root.glob("captions/cap.*.json"), *root.glob("image_splits/split.*.json")]
    return sorted(found) + [path for path in [root / "relevance.parquet"] if path.exists()]


def read_relevance(path: Path) -> Relevance:
    """Read the optional `relevance.parquet`; a file without `split` is of val.

    Raises:
        UserError: when it is truncated, or a column is missing or of another type.
    """
    table = read_parquet(path, "write it again")
    names = table.column_names
    if absent := sorted(set(RELEVANCE.names) - {"split"} - set(names)):
        raise UserError(f"{path} has no column {absent[0]!r}")
    if "split" not in names:
        table = table.append_column("split", pa.array(["val"] * table.num_rows))
    try:
        rows = table.select(RELEVANCE.names).cast(RELEVANCE).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"{path} holds another type than {RELEVANCE.types}: {error}") from error
    return {(row["category"], row["split"], row["query_index"]): row for row in rows}


def _attach_relevance(
    queries: list[QueryRow], splits: dict[tuple[str, str], list[str]], path: Path
) -> None:
    """Give each query its true answers, which every query of a split has or none."""
    relevance = read_relevance(path)
    listed = {place: set(ids) for place, ids in splits.items()}
    covered = {split for _, split, _ in relevance}
    for query in queries:
        name, category, split = query["query_id"], query["category"], query["split"]
        if split not in covered:
            continue
        truth = relevance.get((category, split, int(name.rsplit("-", 1)[1])))
        if truth is None:
            raise UserError(f"{path} has no row for {name}; write all of {split}")
        if (truth["candidate"], truth["target"]) != (query["reference_id"], query["target_id"]):
            raise UserError(f"{path}: row of {name} names another query's images")
        answers = truth["relevant"]
        if answers is None or truth["target"] not in answers:
            raise UserError(f"{path}: {name} has no target among its answers")
        if strange := sorted(set(answers) - listed[category, split], key=str):
            raise UserError(f"{path}: {name} names {strange[0]!r}, not in its split file")
        query["relevant"] = answers
