"""Every image is decoded in full: what is broken is recorded, never dropped."""

import hashlib
import os
from pathlib import Path

import pytest
from PIL import Image

from rau import pictures
from rau.datasets import coverage, manifest
from rau.datasets.locate import Located
from rau.errors import UserError
from tests.manifests import built


@pytest.fixture
def store(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (20, 30), "red").save(images / "whole.jpg")
    Image.new("RGB", (8, 8), "blue").save(images / "other.png")
    whole = Image.effect_noise((200, 200), 80)
    whole.save(images / "cut.jpg")
    (images / "cut.jpg").write_bytes((images / "cut.jpg").read_bytes()[:-2000])
    (images / "empty.jpg").touch()
    (images / "page.jpg").write_text("<html>404</html>")
    return tmp_path


IDS = ["whole", "other", "cut", "empty", "page", "absent"]
PLACES = {i: [f"images/{i}"] for i in IDS}


def test_rows_follow_the_ids(store: Path) -> None:
    rows = built(
        store, Located(store, IDS, PLACES.__getitem__), {"whole": "a mirror"}, 2
    ).to_pylist()
    assert [row["image_id"] for row in rows] == IDS
    assert [row["status"] for row in rows] == ["ok", "ok"] + ["corrupt"] * 3 + ["missing"]
    first = rows[0]
    assert (first["width"], first["height"], first["path"]) == (20, 30, "images/whole.jpg")
    content = (store / "images/whole.jpg").read_bytes()
    assert (first["bytes"], first["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert [row["source"] for row in rows[:2]] == ["a mirror", "the folder"]
    assert (rows[-1]["path"], rows[-1]["source"]) == (None, None)


def test_images_that_changed_are_inspected_again_and_no_others(store: Path) -> None:
    before = built(store, Located(store, IDS, PLACES.__getitem__), {"other": "a mirror"}, 2)
    Image.new("RGB", (9, 7), "green").save(store / "images/other.png")
    (store / "images/whole.jpg").unlink()
    found = manifest.inspect_again(before, store, ["other"])
    own = (store / "images/other.png").read_bytes()
    assert [row for row in found.to_pylist() if row["image_id"] != "other"] == [
        row for row in before.to_pylist() if row["image_id"] != "other"
    ]
    row = found.to_pylist()[1]
    assert (row["image_id"], row["width"], row["source"]) == ("other", 9, "a mirror")
    assert row["sha256"] == hashlib.sha256(own).hexdigest()
    for name in ("absent", "unknown", "whole"):
        with pytest.raises(UserError, match=f"image '{name}' has no file in the manifest; run"):
            manifest.inspect_again(before, store, ["other", name])
    with pytest.raises(UserError, match=r"empty\.jpg is corrupt \(.*\); replace the file, or run"):
        manifest.inspect_again(before, store, ["empty"])


def test_gap_is_an_error_unless_allowed(store: Path) -> None:
    table = built(store, Located(store, IDS, PLACES.__getitem__), {}, 2)
    listing = store / "missing.csv"
    with pytest.raises(UserError, match=r"4 of 6 .*cut \(corrupt: damaged.*absent \(missing\)"):
        coverage.check(table, False, store, listing)
    coverage.check(table, True, store, listing)
    unknown = f'"not an image of a known format ({", ".join(pictures.FORMATS)})"'
    assert coverage.missing(table).splitlines()[1:] == [
        f"cut,corrupt,the folder,{table['reason'][2]}",
        f"empty,corrupt,the folder,{unknown}",
        f"page,corrupt,the folder,{unknown}",
        "absent,missing,,",
    ]


def test_files_that_are_no_images_are_removed(store: Path) -> None:
    table = built(store, Located(store, IDS, PLACES.__getitem__), {"whole": "a mirror"}, 2)
    # Two experiments on one store may find the same files.
    for _ in range(2):
        assert manifest.remove_corrupt(table, store)
        assert sorted(path.name for path in (store / "images").iterdir()) == [
            "other.png",
            "whole.jpg",
        ]
    assert not manifest.remove_corrupt(
        built(store, Located(store, IDS, PLACES.__getitem__), {}, 2), store
    )


def test_a_folder_whose_name_is_no_text_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "own" / os.fsdecode(b"caf\xe9")
    folder.mkdir(parents=True)
    (folder / "A.jpg").touch()
    with pytest.raises(UserError, match=r"own/caf\\xe9/A\.jpg: the path is not UTF-8; rename"):
        built(tmp_path / "root", {"A": folder / "A.jpg"}, {}, 1)


def test_too_many_pixels_are_refused(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_PIXELS", 100)
    rows = built(store, Located(store, IDS, PLACES.__getitem__), {}, 1).to_pylist()
    assert [row["status"] for row in rows[:2]] == ["corrupt", "ok"]


def test_an_image_that_is_hardly_more_than_a_line_is_refused(store: Path) -> None:
    """An encoder would scale its shorter side, to gigabytes."""
    Image.new("RGB", (4000, 9)).save(store / "images/other.png")
    _, row, *_ = built(store, Located(store, IDS, PLACES.__getitem__), {}, 1).to_pylist()
    assert row["status"] == "corrupt"
    assert row["reason"].startswith("4,000 x 9 pixels, one side is more than 100 times")


@pytest.mark.parametrize("image_id", ["../secret", "a/b", "", ".hidden", "a\0b", "a\\b"])
def test_ids_stay_in_the_folder(image_id: str) -> None:
    with pytest.raises(UserError, match="not a plain file name"):
        manifest.check_image_id(image_id)
