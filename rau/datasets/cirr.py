"""CIRR's official layout and its usual variants, read into the common form.

Layout: `captions/cap.rc2.<split>.json`, `image_splits/split.rc2.<split>.json` (id to path), in the
folder or in `cirr/` (as CLIP4Cir, SPRC and SEARLE have them), and NLVR2's images in one of
`FOLDERS`, the train images in numbered folders or flat (https://github.com/Cuberick-Orion/CIRR,
branch `cirr_dataset`; counts there). The target is `target_hard`; `members` is the image set
without the reference, among which subset recall ranks.
"""

from pathlib import Path, PurePosixPath
from typing import Any

from rau.datasets.annotations import (
    Annotations,
    are_strings,
    check_entry,
    check_listed,
    entries,
    no_captions,
    passed_over,
)
from rau.datasets.locate import stem
from rau.datasets.manifest import check_image_id
from rau.errors import UserError
from rau.files import read_json
from rau.schemas import QueryRow

CATEGORY = "all"
SPLITS = ("train", "val", "test1")
RELEASE = "rc2"
FOLDERS = ("img_raw", ".", "images")
HOMES = (".", "cirr")


def _paths(path: Path) -> dict[str, str]:
    """The image ids of a split file with their paths, which must stay inside the folder."""
    listed = read_json(path, "split file")
    if not isinstance(listed, dict) or not all(isinstance(p, str) for p in listed.values()):
        raise UserError(f"split file {path} is not a table of image ids and paths")
    for image_id, place in listed.items():
        check_image_id(image_id)
        pure = PurePosixPath(place)
        if pure.is_absolute() or ".." in pure.parts or "\\" in place or "\0" in place:
            raise UserError(f"split file {path}: path {place!r} leaves the folder; fix the file")
    return listed


def _query(entry: Any, where: str, split: str) -> QueryRow:
    hidden = split == "test1"
    strings = ["reference", "caption"] + ([] if hidden else ["target_hard"])
    check_entry(entry, where, strings, ["pairid", "img_set"])
    members = entry["img_set"].get("members") if isinstance(entry["img_set"], dict) else None
    if not are_strings(members):
        raise UserError(f"{where}: img_set has no list 'members' of image ids; fix the row")
    if type(entry["pairid"]) is not int:  # True is no number here.
        raise UserError(f"{where}: 'pairid' is not a number; fix the row")
    return {
        "query_id": str(entry["pairid"]),
        "split": split,
        "category": CATEGORY,
        "reference_id": entry["reference"],
        "target_id": None if hidden else entry["target_hard"],
        "captions": [entry["caption"]],
        "members": [m for m in dict.fromkeys(members) if m != entry["reference"]],
        "relevant": None,
    }


def read_annotations(root: Path) -> Annotations:
    """Read the existing captions and split files; a split may have no captions.

    Galleries: `original` is the split file of val, `test1` that of test1.

    Raises:
        UserError: no captions at all, missing keys, or an id that its split file does not list.
    """
    splits: dict[tuple[str, str], list[str]] = {}
    paths: dict[str, str] = {}
    queries: list[QueryRow] = []
    files: dict[str, Path] = {}
    home = next((root / h for h in HOMES if any(root.glob(f"{h}/captions/cap.{RELEASE}.*"))), root)
    for split in SPLITS:
        captions = home / "captions" / f"cap.{RELEASE}.{split}.json"
        split_file = home / "image_splits" / f"split.{RELEASE}.{split}.json"
        if not captions.exists() and not split_file.exists():
            continue
        listed = _paths(split_file)
        there = [path for path in (captions, split_file) if path.exists()]
        files |= {path.relative_to(home).as_posix(): path for path in there}
        splits[CATEGORY, split] = list(listed)
        paths |= listed
        if captions.exists():
            queries += _queries(captions, split, set(listed))
    if not queries:
        raise no_captions(root, f"cap.{RELEASE}.<split>.json")
    galleries = {
        name: {CATEGORY: sorted(splits[CATEGORY, split])}
        for name, split in (("original", "val"), ("test1", "test1"))
        if (CATEGORY, split) in splits
    }

    def places(image_id: str) -> list[str]:
        place = PurePosixPath(stem(paths[image_id]))
        flat = PurePosixPath(*place.parts[:1], place.name)
        found = [str(PurePosixPath(f) / p) for p in (place, flat) for f in FOLDERS]
        return [*dict.fromkeys(found), f"images/{image_id}"]

    notes = passed_over(home / "captions", files.values())
    return Annotations(splits, queries, galleries, places, dict(sorted(files.items())), notes)


def _queries(captions: Path, split: str, known: set[str]) -> list[QueryRow]:
    """The queries of a captions file, of images that its split file lists.

    Raises:
        UserError: naming the row and what is wrong with it.
    """
    queries = []
    seen: set[str] = set()
    for row, entry in enumerate(entries(captions)):
        where = f"{captions}, row {row}"
        query = _query(entry, where, split)
        keys = {"reference": "reference_id", "target_hard": "target_id"}
        check_listed(query, where, keys, known)
        if strange := sorted(set(query["members"] or ()) - known):
            raise UserError(f"{where}: member {strange[0]!r} is not in its split file")
        if split == "val" and query["target_id"] not in (query["members"] or ()):
            # Subset recall would rank it in a set that does not contain it.
            raise UserError(f"{where}: target_hard is not in its img_set; fix the row")
        if query["query_id"] in seen:
            raise UserError(f"{where}: duplicate pairid {query['query_id']}; fix the row")
        seen.add(query["query_id"])
        queries.append(query)
    return queries
