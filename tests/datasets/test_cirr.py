"""CIRR's layout: counts, image sets, and paths that stay in the folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from rau.datasets import cirr
from rau.datasets.locate import Located
from rau.errors import UserError
from tests.places import SHARED, needs

REAL = SHARED / "cirr"
ENTRY = {
    "pairid": 7,
    "reference": "dev-1-0-img0",
    "target_hard": "dev-1-0-img1",
    "caption": " turn it. ",
    "img_set": {"id": 1, "members": ["dev-1-0-img1", "dev-1-0-img0", "dev-2-0-img0"]},
}
PATHS = {i: f"./dev/{i}.png" for i in ("dev-1-0-img0", "dev-1-0-img1", "dev-2-0-img0")}


def write_layout(root: Path, entries: Any, paths: Any = PATHS, split: str = "val") -> None:
    for folder, name, value in (
        ("captions", f"cap.rc2.{split}.json", entries),
        ("image_splits", f"split.rc2.{split}.json", paths),
    ):
        (root / folder).mkdir(exist_ok=True)
        (root / folder / name).write_text(json.dumps(value))


def test_query(tmp_path: Path) -> None:
    write_layout(tmp_path, [ENTRY])
    annotations = cirr.read_annotations(tmp_path)
    (query,) = annotations.queries
    assert query["query_id"] == "7"
    assert (query["reference_id"], query["target_id"]) == ("dev-1-0-img0", "dev-1-0-img1")
    assert query["members"] == ["dev-1-0-img1", "dev-2-0-img0"]
    assert annotations.galleries == {"original": {"all": sorted(PATHS)}}
    assert annotations.places("dev-1-0-img0")[:2] == [
        "img_raw/dev/dev-1-0-img0",
        "dev/dev-1-0-img0",
    ]


def test_hidden_targets(tmp_path: Path) -> None:
    hidden = {key: value for key, value in ENTRY.items() if key != "target_hard"}
    write_layout(tmp_path, [hidden], split="test1")
    annotations = cirr.read_annotations(tmp_path)
    assert annotations.queries[0]["target_id"] is None
    assert list(annotations.galleries) == ["test1"]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({**ENTRY, "reference": "dev-9"}, "reference 'dev-9' is not in its split file"),
        ({**ENTRY, "target_hard": None}, "'target_hard' is not a string"),
        ({**ENTRY, "img_set": {"members": ["x"]}}, "member 'x' is not in its split file"),
        ({**ENTRY, "img_set": []}, "no list 'members'"),
        ({**ENTRY, "img_set": {"members": ["dev-2-0-img0"]}}, "target_hard is not in its img_set"),
        ({**ENTRY, "pairid": True}, "'pairid' is not a number"),
        ({**ENTRY, "pairid": "7"}, "'pairid' is not a number"),
        ({k: v for k, v in ENTRY.items() if k != "caption"}, "no key 'caption'"),
        ([], "not an object"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, entry: Any, said: str) -> None:
    write_layout(tmp_path, [entry])
    with pytest.raises(UserError, match=said) as error:
        cirr.read_annotations(tmp_path)
    assert "row 0" in str(error.value)


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "a\\b", "a\0b"])
def test_paths_stay_in_the_folder(tmp_path: Path, path: str) -> None:
    write_layout(tmp_path, [ENTRY], PATHS | {"dev-1-0-img0": path})
    with pytest.raises(UserError, match="leaves the folder"):
        cirr.read_annotations(tmp_path)


TRAIN = "train-11041-2-img0"


@pytest.mark.parametrize("home", [".", "cirr"])
@pytest.mark.parametrize(
    "place", ["img_raw/train/34", "train/34", "images/train/34", "train", "img_raw/train", "images"]
)
def test_layouts_of_other_codes(tmp_path: Path, home: str, place: str) -> None:
    (tmp_path / home).mkdir(exist_ok=True)
    paths = {**PATHS, TRAIN: f"./train/34/{TRAIN}.png"}
    write_layout(tmp_path / home, [{**ENTRY, "reference": TRAIN}], paths)
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / f"{TRAIN}.png").touch()
    annotations = cirr.read_annotations(tmp_path)
    assert list(annotations.files) == [
        "captions/cap.rc2.val.json",
        "image_splits/split.rc2.val.json",
    ]
    found = Located(tmp_path, annotations.image_ids, annotations.places)
    assert found[TRAIN] == tmp_path / place / f"{TRAIN}.png"
    assert found["dev-1-0-img0"] is None


def test_a_pair_stands_once(tmp_path: Path) -> None:
    write_layout(tmp_path, [ENTRY, ENTRY])
    with pytest.raises(UserError, match="row 1: duplicate pairid 7"):
        cirr.read_annotations(tmp_path)


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"contains no captions/cap\.rc2"):
        cirr.read_annotations(tmp_path)


@needs("cirr")
def test_real_counts() -> None:
    annotations = cirr.read_annotations(REAL)
    splits = [query["split"] for query in annotations.queries]
    assert (splits.count("val"), splits.count("test1")) == (4181, 4148)
    assert len(annotations.galleries["original"]["all"]) == 2297
    assert len(annotations.galleries["test1"]["all"]) == 2315
    assert len(annotations.image_ids) == 21551
    assert {len(query["members"] or ()) for query in annotations.queries} == {5}
    assert all((q["target_id"] is None) == (q["split"] == "test1") for q in annotations.queries)
    val = [query for query in annotations.queries if query["split"] == "val"]
    assert all(query["target_id"] in (query["members"] or ()) for query in val)
