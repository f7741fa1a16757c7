"""CIRR's official layout, read into the common form.

Layout: `captions/cap.rc2.<split>.json`, `image_splits/split.rc2.<split>.json` (id to path), and
NLVR2's images under `img_raw/` or in the folder itself (https://github.com/Cuberick-Orion/CIRR,
branch `cirr_dataset`; counts there). The target is `target_hard`; `members` is the image set
without the reference, among which subset recall ranks.
"""

from pathlib import Path, PurePosixPath
from typing import Any

from rau.datasets.annotations import Annotations, are_strings, check_entry, check_listed, entries
from rau.datasets.manifest import SUFFIXES, check_image_id
from rau.errors import UserError
from rau.files import read_json
from rau.schemas import QueryRow

CATEGORY = "all"
SPLITS = ("train", "val", "test1")
RELEASE = "rc2"
FOLDERS = ("img_raw", ".", "images")


def _captions(root: Path, split: str) -> Path:
    return root / "captions" / f"cap.{RELEASE}.{split}.json"


def _split(root: Path, split: str) -> Path:
    return root / "image_splits" / f"split.{RELEASE}.{split}.json"


def _paths(path: Path) -> dict[str, str]:
    """Image ids and the paths that a split file gives them, kept inside the folder."""
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
    if not isinstance(entry["pairid"], int):
        raise UserError(f"{where}: 'pairid' is not a number; fix the row")
    return {
        "query_id": str(entry["pairid"]),
        "split": split,
        "category": CATEGORY,
        "reference_id": entry["reference"],
        "target_id": None if hidden else entry["target_hard"],
        "captions": [entry["caption"]],
        "members": [m for m in members if m != entry["reference"]],
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
    for split in SPLITS:
        captions = _captions(root, split)
        if not captions.exists() and not _split(root, split).exists():
            continue
        listed = _paths(_split(root, split))
        splits[CATEGORY, split] = list(listed)
        paths |= listed
        if not captions.exists():
            continue
        known = set(listed)
        for row, entry in enumerate(entries(captions)):
            where = f"{captions}, row {row}"
            query = _query(entry, where, split)
            keys = {"reference": "reference_id", "target_hard": "target_id"}
            check_listed(query, where, keys, known)
            if strange := sorted(set(query["members"] or ()) - known):
                raise UserError(f"{where}: member {strange[0]!r} is not in its split file")
            queries.append(query)
    if not queries:
        raise UserError(f"{root} holds no captions/cap.rc2.<split>.json; check dataset.root")
    galleries = {
        name: {CATEGORY: sorted(splits[CATEGORY, split])}
        for name, split in (("original", "val"), ("test1", "test1"))
        if (CATEGORY, split) in splits
    }

    def places(image_id: str) -> list[str]:
        listed = [str(PurePosixPath(folder) / paths[image_id]) for folder in FOLDERS[:2]]
        return listed + [f"{FOLDERS[2]}/{image_id}{suffix}" for suffix in SUFFIXES]

    return Annotations(splits, queries, galleries, places)


def annotation_files(root: Path) -> list[Path]:
    """Captions and split files, in a fixed order."""
    found = [*root.glob(f"captions/cap.{RELEASE}.*.json")]
    return sorted([*found, *root.glob(f"image_splits/split.{RELEASE}.*.json")])
