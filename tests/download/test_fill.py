"""A user-provided folder that another one completes is not modified."""

from pathlib import Path

import pytest

from rau.download.fill import fill
from rau.errors import UserError
from rau.layouts import LAYOUTS
from rau.params import DatasetParams
from tests.datasets.test_fashioniq import ENTRY, write_layout
from tests.manifests import built
from tests.synthetic import picture


def test_images_complete_the_root(tmp_path: Path) -> None:
    root, own = tmp_path / "root", tmp_path / "own"
    for folder in (root / "images", own / "deep"):
        folder.mkdir(parents=True)
    write_layout(root, [ENTRY], ["A", "B", "C"])
    (root / "images/A.jpg").write_bytes(picture("A"))
    for name in ("A", "B"):
        (own / f"deep/{name}.JPG").write_bytes(picture(name))
    before = sorted(root.rglob("*"))
    dataset = DatasetParams(name="fashioniq", root=str(root), images="own")
    filled = fill(dataset, root, tmp_path, 1)
    assert filled.images == {"A": root / "images/A.jpg", "B": own / "deep/B.JPG", "C": None}
    rows = built(root, filled.images, filled.sources, 1).to_pylist()
    assert [row["source"] for row in rows] == ["the folder", "dataset.images", None]
    assert [row["status"] for row in rows] == ["ok", "ok", "missing"]
    assert root / rows[1]["path"] == own / "deep/B.JPG"
    assert sorted(root.rglob("*")) == before
    with pytest.raises(UserError, match=r"dataset\.images: no folder"):
        fill(dataset.model_copy(update={"images": "nowhere"}), root, tmp_path, 1)


def test_an_id_does_not_get_the_picture_of_another_that_is_there(tmp_path: Path) -> None:
    root, own = tmp_path / "root", tmp_path / "own"
    (root / "images").mkdir(parents=True)
    own.mkdir()
    write_layout(root, [ENTRY], ["A", "B", "b", "C"])
    for path in (root / "images/A.jpg", root / "images/B.jpg", own / "B.jpg", own / "c.jpg"):
        path.write_bytes(picture(path.stem))
    dataset = DatasetParams(name="fashioniq", root=str(root), images="own")
    found = fill(dataset, root, tmp_path, 1).images
    assert (found["B"], found["b"]) == (root / "images/B.jpg", None)
    assert found["C"] == own / "c.jpg"


def test_nothing_completes_the_garments(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.images does not apply to garments"):
        fill(DatasetParams(images=str(tmp_path)), tmp_path / "store", tmp_path, 1)
    assert not (tmp_path / "store").exists()


def test_a_data_set_without_a_source_needs_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LAYOUTS, "mine", "rau.datasets.fashioniq")
    with pytest.raises(UserError, match=r"dataset\.name=mine has no known source .* dataset\.root"):
        fill(DatasetParams(name="mine"), tmp_path / "store", tmp_path, 1)
    assert not (tmp_path / "store").exists()
