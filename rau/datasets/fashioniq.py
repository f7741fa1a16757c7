"""FashionIQ's official layout, read into tables.

Layout: `captions/cap.<category>.<split>.json`, `image_splits/split.<category>.<split>.json`,
`images/<id>.jpg|png`, and optionally `relevance.parquet`
(https://github.com/XiaoxiaoGuo/fashion-iq). Counts are those of the files; nothing is assumed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rau.errors import UserError
from rau.files import read_json
from rau.schemas import GALLERIES, IMAGES, QUERIES, RELEVANCE

CATEGORIES = ("dress", "shirt", "toptee")
SPLITS = ("train", "val", "test")
Relevance = dict[tuple[str, str, int], dict[str, Any]]


@dataclass(frozen=True)
class Annotations:
    """Split files and queries of one folder, in file order."""

    splits: dict[tuple[str, str], list[str]]
    queries: list[dict[str, Any]]

    @property
    def image_ids(self) -> list[str]:
        """Every distinct image id of every split, in order of first appearance."""
        return list(dict.fromkeys(i for ids in self.splits.values() for i in ids))


def _present(root: Path) -> Iterator[tuple[str, str, Path]]:
    for split in SPLITS:
        for category in CATEGORIES:
            path = root / "captions" / f"cap.{category}.{split}.json"
            if path.exists():
                yield category, split, path


def _ids(path: Path) -> list[str]:
    ids = read_json(path, "split file")
    if not isinstance(ids, list) or not all(isinstance(i, str) for i in ids):
        raise UserError(f"split file {path} is not a list of image ids")
    return list(dict.fromkeys(ids))


def _query(entry: Any, row: int, category: str, split: str, path: Path) -> dict[str, Any]:
    where = f"{path}, row {row}"
    if not isinstance(entry, dict):
        raise UserError(f"{where}: not an object; fetch the file again")
    needed = {"candidate", "captions"} | (set() if split == "test" else {"target"})
    if missing := sorted(needed - set(entry)):
        raise UserError(f"{where}: no key {missing[0]!r}; mend the row or fetch the file again")
    for key in sorted(needed - {"captions"}):
        if not isinstance(entry[key], str):
            raise UserError(f"{where}: {key!r} is not a string; mend the row")
    captions = entry["captions"]
    if (
        not isinstance(captions, list)
        or not captions
        or not all(isinstance(caption, str) for caption in captions)
    ):
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
    """Read captions and split files.

    Raises:
        UserError: no captions, missing keys, or an id that its split file does not list.
    """
    splits: dict[tuple[str, str], list[str]] = {}
    queries: list[dict[str, Any]] = []
    for category, split, path in _present(root):
        ids = _ids(root / "image_splits" / f"split.{category}.{split}.json")
        splits[category, split] = ids
        known = set(ids)
        entries = read_json(path, "captions file")
        if not isinstance(entries, list):
            raise UserError(f"captions file {path} is not a list of queries")
        for row, entry in enumerate(entries):
            query = _query(entry, row, category, split, path)
            for key, image_id in (("candidate", "reference_id"), ("target", "target_id")):
                if query[image_id] is not None and query[image_id] not in known:
                    raise UserError(
                        f"{path}, row {row}: {key} {query[image_id]!r} is not in its split file"
                    )
            queries.append(query)
    if not queries:
        raise UserError(f"{root} holds no captions/cap.<category>.<split>.json; check dataset.root")
    return Annotations(splits, queries)


def annotation_files(root: Path) -> list[Path]:
    """Captions, split files and truth, in a fixed order."""
    found = [*root.glob("captions/cap.*.json"), *root.glob("image_splits/split.*.json")]
    return sorted(found) + [path for path in [root / "relevance.parquet"] if path.exists()]


def read_relevance(path: Path) -> Relevance:
    """Read the optional `relevance.parquet`; a file without `split` speaks of val."""
    try:
        names = pq.read_schema(path).names
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is not a whole Parquet file; write it again") from error
    if absent := sorted(set(RELEVANCE.names) - {"split"} - set(names)):
        raise UserError(f"{path} has no column {absent[0]!r}")
    table = pq.read_table(path)
    if "split" not in names:
        table = table.append_column("split", pa.array(["val"] * table.num_rows))
    rows = table.select(RELEVANCE.names).cast(RELEVANCE).to_pylist()
    return {(row["category"], row["split"], row["query_index"]): row for row in rows}


def _attach_relevance(queries: list[dict[str, Any]], relevance: Relevance, path: Path) -> None:
    for query in queries:
        row = int(query["query_id"].rsplit("-", 1)[1])
        truth = relevance.get((query["category"], query["split"], row))
        if truth is None:
            continue
        if (truth["candidate"], truth["target"]) != (query["reference_id"], query["target_id"]):
            raise UserError(f"{path}: row of {query['query_id']} names another query's images")
        query["relevant"] = truth["relevant"]


def build_tables(root: Path, manifest: pa.Table) -> dict[str, pa.Table]:
    """Read a folder into the three tables `images`, `queries` and `galleries`.

    Galleries: `original` is the split file of val, `val-union` the references and targets of val.
    """
    annotations = read_annotations(root)
    relevance_path = root / "relevance.parquet"
    if relevance_path.exists():
        _attach_relevance(annotations.queries, read_relevance(relevance_path), relevance_path)
    category_of: dict[str, str] = {}
    for (category, _), ids in annotations.splits.items():
        for image_id in ids:
            category_of.setdefault(image_id, category)
    images = [
        {name: row.get(name) for name in IMAGES.names} | {"category": category_of[row["image_id"]]}
        for row in manifest.to_pylist()
    ]
    members_rows = [
        {"gallery": gallery, "category": category, "image_id": image_id}
        for gallery, members in galleries(annotations).items()
        for category, ids in members.items()
        for image_id in ids
    ]
    return {
        "images": pa.Table.from_pylist(images, schema=IMAGES),
        "queries": pa.Table.from_pylist(annotations.queries, schema=QUERIES),
        "galleries": pa.Table.from_pylist(members_rows, schema=GALLERIES),
    }


def galleries(annotations: Annotations) -> dict[str, dict[str, list[str]]]:
    """Members of each gallery by category, sorted by id: the order that breaks ties."""
    original = {c: sorted(ids) for (c, s), ids in annotations.splits.items() if s == "val"}
    union: dict[str, set[str]] = {category: set() for category in original}
    for query in annotations.queries:
        if query["split"] == "val":
            union[query["category"]] |= {query["reference_id"], query["target_id"]}
    return {"original": original, "val-union": {c: sorted(ids) for c, ids in union.items()}}
