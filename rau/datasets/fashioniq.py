"""FashionIQ's official layout and its usual variants, read into tables.

Layout: `captions/cap.<category>.<split>.json`, `image_splits/split.<category>.<split>.json`,
images in one of `FOLDERS` or a folder per category in it, and optionally `relevance.parquet`
(https://github.com/XiaoxiaoGuo/fashion-iq). Counts are those of the files; nothing is assumed.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from rau.datasets.annotations import (
    Annotations,
    are_strings,
    check_entry,
    check_listed,
    entries,
    no_captions,
    passed_over,
)
from rau.datasets.manifest import check_image_id
from rau.errors import UserError
from rau.files import read_json
from rau.schemas import RELEVANCE, QueryRow, ends, fault, read_parquet

SPLITS = ("train", "val", "test")
MAX_CAPTIONS = 100
# The official one, VAL's and CoSMo's, the resized copies of others, and the folder itself.
FOLDERS = ("images", "image_data", "resized_image", "resized_images", ".")
OFFICIAL = {"dress", "shirt", "toptee"}
CAPTIONS = re.compile(r"cap\.(?P<category>[^.]+)\.(?P<split>train|val|test)\.json")
Relevance = dict[tuple[str, str, int], dict[str, Any]]


def _present(root: Path) -> dict[tuple[str, str], tuple[Path, Path]]:
    """Captions and split file by category and split.

    Captions files without any split file for their category are ignored, unless it is official.
    """
    found: dict[tuple[str, str], tuple[Path, Path]] = {}
    for path in sorted(root.glob("captions/cap.*.json")):
        if not (match := CAPTIONS.fullmatch(path.name)) or not path.is_file():
            continue
        listed = root / "image_splits" / f"split{path.name.removeprefix('cap')}"
        category = unicodedata.normalize("NFC", match["category"])
        if category not in OFFICIAL and not any(
            listed.with_name(f"split.{match['category']}.{split}.json").exists() for split in SPLITS
        ):
            continue
        found[category, match["split"]] = path, listed
    return dict(sorted(found.items(), key=lambda row: (SPLITS.index(row[0][1]), row[0][0])))


def _ids(path: Path) -> list[str]:
    ids = read_json(path, "split file")
    if not are_strings(ids):
        raise UserError(f"split file {path} is not a list of image ids")
    return list(dict.fromkeys(ids))


def _query(entry: Any, where: str, category: str, split: str, row: int) -> QueryRow:
    check_entry(entry, where, ["candidate"], ["captions"])
    if split != "test" or entry.get("target") is not None:
        check_entry(entry, where, ["target"], [])
    captions = entry["captions"]
    if not captions or not are_strings(captions) or len(captions) > MAX_CAPTIONS:
        raise UserError(f"{where}: 'captions' is not a list of 1 to {MAX_CAPTIONS} strings")
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
    present = _present(root)
    for (category, split), (path, listed) in present.items():
        splits[category, split] = ids = _ids(listed)
        known = set(ids)
        for row, entry in enumerate(entries(path)):
            where = f"{path}, row {row}"
            query = _query(entry, where, category, split, row)
            check_listed(query, where, {"candidate": "reference_id", "target": "target_id"}, known)
            queries.append(query)
    if not queries:
        raise no_captions(root, "cap.<category>.<split>.json")
    files = _files(root, present.values())
    notes = passed_over(root / "captions", files.values())
    relevance_path = root / "relevance.parquet"
    if relevance_path.exists():
        files["relevance.parquet"] = relevance_path
        _attach_relevance(queries, splits, relevance_path)
    galleries = _galleries(splits, queries)
    return Annotations(splits, queries, galleries, _places(splits), files, notes)


def _files(root: Path, present: Iterable[tuple[Path, Path]]) -> dict[str, Path]:
    """Captions and the split files of their categories, also of a split without captions."""
    found = {path for path, _ in present}
    for _, listed in present:
        head, category, *_ = listed.name.split(".")
        others = (listed.with_name(f"{head}.{category}.{split}.json") for split in SPLITS)
        found |= {path for path in others if path.exists()}
    return {path.relative_to(root).as_posix(): path for path in sorted(found)}


def _places(splits: dict[tuple[str, str], list[str]]) -> Callable[[str], list[str]]:
    categories = list(dict.fromkeys(category for category, _ in splits))

    def places(image_id: str) -> list[str]:
        name = check_image_id(image_id)
        inner = [name, *(f"{category}/{name}" for category in categories)]
        return [f"{folder}/{place}" for folder in FOLDERS for place in inner]

    return places


def _galleries(
    splits: dict[tuple[str, str], list[str]], queries: list[QueryRow]
) -> dict[str, dict[str, list[str]]]:
    original = {c: sorted(ids) for (c, s), ids in splits.items() if s == "val"}
    union: dict[str, set[str]] = {category: set() for category in original}
    for query in queries:
        if query["split"] == "val":
            union[query["category"]] |= set(ends(query))
    return {"original": original, "val-union": {c: sorted(ids) for c, ids in union.items()}}


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
        table = table.select(RELEVANCE.names).cast(RELEVANCE)
    except pa.ArrowException as error:
        raise UserError(f"{path} has types other than {RELEVANCE.types}: {error}") from error
    if wrong := fault(table, RELEVANCE):
        raise UserError(f"{path}: {wrong}; write it again")
    rows = table.to_pylist()
    return {(row["category"], row["split"], row["query_index"]): row for row in rows}


def _attach_relevance(
    queries: list[QueryRow], splits: dict[tuple[str, str], list[str]], path: Path
) -> None:
    """Add the correct answers to the queries; either all queries of a split have them, or none."""
    relevance = read_relevance(path)
    listed = {place: set(ids) for place, ids in splits.items()}
    covered = {split for _, split, _ in relevance}
    for query in queries:
        name, category, split = query["query_id"], query["category"], query["split"]
        if split not in covered:
            continue
        truth = relevance.get((category, split, int(name.rsplit("-", 1)[1])))
        if truth is None:
            raise UserError(f"{path} has no row for {name}; write all queries of {split}")
        if (truth["candidate"], truth["target"]) != (query["reference_id"], query["target_id"]):
            raise UserError(f"{path}: row of {name} names another query's images")
        answers = truth["relevant"]
        if truth["target"] not in answers:
            raise UserError(f"{path}: {name} has no target among its answers")
        if strange := sorted(set(answers) - listed[category, split], key=str):
            raise UserError(f"{path}: {name} names {strange[0]!r}, not in its split file")
        query["relevant"] = answers
