"""CIRCO's official layout, read into the common form.

Layout: `annotations/<split>.json`, and COCO's list of images with the images that it names,
`annotations/image_info_unlabeled2017.json` and `unlabeled2017/`, in `COCO2017_unlabeled/` or beside
the annotations (https://github.com/miccunifi/CIRCO). Every query of either split is ranked among
all images. There is no train split. An image's id is the name of its file, its number in twelve
digits.
"""

from pathlib import Path
from typing import Any

from rau.datasets.annotations import (
    Annotations,
    are_strings,
    check_entry,
    entries,
    passed_over,
)
from rau.datasets.registry import COCO, IMAGE_LIST
from rau.errors import UserError
from rau.files import read_json
from rau.schemas import QueryRow

CATEGORY = "all"
SPLITS = ("val", "test")
DIGITS = 12
# Where COCO's files may be, the official place first.
HOMES = (COCO, ".")
UNLABELED = "unlabeled2017"


def image_id(number: Any, where: str) -> str:
    """The id of an image by its number.

    Raises:
        UserError: when it is no such number.
    """
    if type(number) is not int or not 0 <= number < 10**DIGITS:  # True is no number here.
        raise UserError(f"{where}: {str(number)[:40]!r} is not an image number; fix the file")
    return f"{number:0{DIGITS}}"


def _images(root: Path) -> tuple[Path, list[str]]:
    """COCO's list of images, and their ids in its order."""
    path = next((p for home in HOMES if (p := root / home / IMAGE_LIST).exists()), None)
    if path is None:
        raise UserError(
            f"{root} contains no {COCO}/{IMAGE_LIST}, COCO's list of the images: take it from "
            "image_info_unlabeled2017.zip of https://cocodataset.org/#download"
        )
    listed = read_json(path, "list of images")
    rows = listed.get("images") if isinstance(listed, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path} has no list 'images'; fetch it again")
    ids = [image_id(row.get("id"), f"{path}, image {n}") for n, row in enumerate(rows)]
    if len(set(ids)) < len(ids):
        raise UserError(f"{path} lists a duplicate image; fetch it again")
    return path, ids


def _query(entry: Any, where: str, split: str) -> QueryRow:
    hidden = split == "test"
    others = ["id", "reference_img_id", *([] if hidden else ["target_img_id", "gt_img_ids"])]
    check_entry(entry, where, ["relative_caption", "shared_concept"], others)
    if type(entry["id"]) is not int or entry["id"] < 0:
        raise UserError(f"{where}: 'id' is not a query number; fix the row")
    aspects = entry.get("semantic_aspects")
    if aspects is not None and not are_strings(aspects):
        raise UserError(f"{where}: 'semantic_aspects' is not a list of strings; fix the row")
    answers = None if hidden else entry["gt_img_ids"]
    if not hidden and not isinstance(answers, list):
        raise UserError(f"{where}: 'gt_img_ids' is not a list of images; fix the row")
    return {
        "query_id": str(entry["id"]),
        "split": split,
        "category": CATEGORY,
        "reference_id": image_id(entry["reference_img_id"], where),
        "target_id": None if hidden else image_id(entry["target_img_id"], where),
        "captions": [entry["relative_caption"]],
        "members": None,
        "relevant": None if answers is None else [image_id(one, where) for one in answers],
        "concept": entry["shared_concept"],
        "aspects": aspects,
    }


def _queries(path: Path, split: str, known: set[str]) -> list[QueryRow]:
    """The queries of a split.

    Raises:
        UserError: naming the row and what is wrong with it.
    """
    queries: dict[str, QueryRow] = {}
    for row, entry in enumerate(entries(path)):
        where = f"{path}, row {row}"
        query = _query(entry, where, split)
        answers = query["relevant"] or []
        if strange := sorted({query["reference_id"], *answers} - known):
            raise UserError(f"{where}: image {strange[0]!r} is not in COCO's list; fix the row")
        if split == "val" and (
            query["target_id"] not in answers or query["reference_id"] in answers
        ):
            raise UserError(
                f"{where}: gt_img_ids does not contain the target, or contains the reference; "
                "fix the row"
            )
        if len(set(answers)) < len(answers):
            raise UserError(f"{where}: gt_img_ids has a duplicate image; fix the row")
        if query["query_id"] in queries:
            raise UserError(f"{where}: duplicate id {query['query_id']}; fix the row")
        queries[query["query_id"]] = query
    return list(queries.values())


def read_annotations(root: Path) -> Annotations:
    """Read val and, if present, test. The gallery `original` has all images.

    Raises:
        UserError: no annotations of val, no list of images, or a row that is wrong.
    """
    there = {s: p for s in SPLITS if (p := root / "annotations" / f"{s}.json").exists()}
    if "val" not in there:
        raise UserError(f"{root} contains no annotations/val.json of CIRCO; check dataset.root")
    listing, ids = _images(root)
    known = set(ids)
    files = {f"annotations/{split}.json": path for split, path in there.items()}
    return Annotations(
        splits={(CATEGORY, split): ids for split in there},
        queries=[q for split, path in there.items() for q in _queries(path, split, known)],
        galleries={"original": {CATEGORY: sorted(ids)}},
        places=lambda name: [f"{home}/{UNLABELED}/{name}" for home in HOMES],
        files=files,
        notes=passed_over(root / "annotations", [*files.values(), listing]),
    )
