"""CIRCO's layout: numbers become ids, all images are the gallery, and odd rows are refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from rau.datasets import circo
from rau.datasets.captions import asked_texts
from rau.datasets.locate import Located
from rau.errors import UserError
from tests import circo_data
from tests.circo_data import LIST, entry, names, number


def write(root: Path, **changed: Any) -> None:
    """A layout of one val query with some values replaced, or removed where they are None."""
    circo_data.write_annotations(root, images=8, test=2)
    row = {key: value for key, value in (entry(0, 8) | changed).items() if value is not None}
    (root / "annotations/val.json").write_text(json.dumps([row]))


def test_query(tmp_path: Path) -> None:
    write(tmp_path)
    found = circo.read_annotations(tmp_path)
    val, *hidden = found.queries
    ids = names(8)
    assert (val["query_id"], val["split"], val["category"]) == ("0", "val", "all")
    assert (val["reference_id"], val["target_id"]) == (ids[0], ids[1])
    assert val["relevant"] == ids[1:4]
    assert (val.get("concept"), val.get("aspects")) == ("a shape of kind 0", ["addition"])
    assert [(q["target_id"], q["relevant"], q.get("aspects")) for q in hidden] == [(None,) * 3] * 2
    assert found.galleries == {"original": {"all": sorted(ids)}}
    assert found.image_ids == ids
    assert asked_texts(val["captions"], val.get("concept")) == [
        "is turned 0 times",
        "a shape of kind 0 is turned 0 times",
    ]


@pytest.mark.parametrize("beside", [True, False])
def test_images_are_found(tmp_path: Path, beside: bool) -> None:
    circo_data.write_annotations(tmp_path, images=8)
    circo_data.write_images(tmp_path, 8)
    if beside:  # The folder that COCO's archives are unpacked in, annotations among them.
        for name in ("annotations/image_info_unlabeled2017.json", "unlabeled2017"):
            (tmp_path / "COCO2017_unlabeled" / name).rename(tmp_path / name)
    found = circo.read_annotations(tmp_path)
    places = Located(tmp_path, found.image_ids, found.places)
    assert {name: path and path.stem for name, path in places.items()} == {n: n for n in names(8)}
    assert found.notes == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"target_img_id": None}, "no key 'target_img_id'"),
        ({"reference_img_id": "10"}, "'10' is not an image number"),
        ({"reference_img_id": True}, "'True' is not an image number"),
        ({"gt_img_ids": [number(1), 10**12]}, "'1000000000000' is not an image number"),
        ({"gt_img_ids": [number(1), -1]}, "'-1' is not an image number"),
        ({"gt_img_ids": number(1)}, "'gt_img_ids' is not a list"),
        ({"gt_img_ids": [number(2)]}, "does not contain the target, or"),
        ({"gt_img_ids": [number(1), number(0)]}, "does not contain the target, or"),
        ({"gt_img_ids": [number(1)] * 2}, "has a duplicate image"),
        ({"gt_img_ids": [number(1), 5]}, "image '000000000005' is not in COCO's list"),
        ({"semantic_aspects": "addition"}, "'semantic_aspects' is not a list of strings"),
        ({"shared_concept": 3}, "'shared_concept' is not a string"),
        ({"id": "0"}, "'id' is not a query number"),
    ],
)
def test_odd_rows_are_refused(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    write(tmp_path, **changed)
    with pytest.raises(UserError, match=f"val.json, row 0: .*{said}"):
        circo.read_annotations(tmp_path)


def test_a_query_that_stands_twice(tmp_path: Path) -> None:
    circo_data.write_annotations(tmp_path)
    (tmp_path / "annotations/val.json").write_text(json.dumps([entry(0, 70)] * 2))
    with pytest.raises(UserError, match=r"row 1: duplicate id 0"):
        circo.read_annotations(tmp_path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda root: (root / LIST).unlink(), r"contains no COCO2017_unlabeled/.*image_info"),
        (lambda root: (root / LIST).write_text("[]"), "has no list 'images'"),
        (
            lambda root: (root / LIST).write_text(json.dumps({"images": [{"id": 1}] * 2})),
            "lists a duplicate image",
        ),
        (lambda root: (root / "annotations/val.json").unlink(), "contains no annotations/val.json"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, damage: Any, said: str) -> None:
    circo_data.write_annotations(tmp_path)
    damage(tmp_path)
    with pytest.raises(UserError, match=said):
        circo.read_annotations(tmp_path)
