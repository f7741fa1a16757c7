"""What is indexed of a folder, with a product table and without."""

import errno
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from rau.errors import UserError
from rau.schemas import ImageRow
from rau.search.catalogue import of_folder, of_images, only


def files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_pictures_anywhere_below(tmp_path: Path) -> None:
    files(tmp_path, "b.jpg", "a/c.PNG", ".hidden/d.jpg", "a/.e.jpg", "a/notes.txt")
    found = of_folder(tmp_path)
    assert list(found.ids) == list(found.paths) == ["a/c.PNG", "b.jpg"]
    assert found.attributes.column_names == []


def test_pictures_behind_links(tmp_path: Path) -> None:
    files(tmp_path, "disk/a.jpg", "own/b.jpg")
    (tmp_path / "own/linked").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/round").symlink_to(tmp_path / "own")
    assert list(of_folder(tmp_path / "own").paths) == ["b.jpg", "linked/a.jpg"]


def test_a_folder_that_cannot_be_read_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files(tmp_path, "a/b.jpg", "c/d.jpg")
    scandir = os.scandir

    def refused(path: str | Path = ".") -> Any:
        if Path(path).name == "c":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    # Not by its permissions, which do not hold for root.
    monkeypatch.setattr(os, "scandir", refused)
    found = of_folder(tmp_path)
    assert (list(found.ids), found.unreadable) == (["a/b.jpg"], {"c/": "Permission denied"})
    (tmp_path / "a/b.jpg").unlink()
    with pytest.raises(UserError, match=r"cannot read .*/c: Permission denied; check its perm"):
        of_folder(tmp_path)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_product_table(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame(
        {
            "id": ["z", "y", "z"],
            "image": ["one.jpg", "sub/two.jpg", "three.jpg"],
            "tags": [None, None, "Red|blue"],
            "price": [3, 4, None],
            "weight": [0.5, 2, None],
            "sale": ["yes", "no", None],
            "title": ["A large one", "A small one", None],
        }
    )
    path = tmp_path / f"products.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    found = of_folder(tmp_path)
    assert list(found.ids) == ["y", "z", "z#2"]
    assert list(found.paths) == ["sub/two.jpg", "one.jpg", "three.jpg"]
    first, second, third = found.attributes.to_pylist()
    assert first["tags"] is None
    assert second == {
        "product": "z",
        "category": "catalogue",
        "tags": ["Red", "blue"],
        "price": 3,
        "weight": 0.5,
        "sale": True,
        "title": "A large one",
    }
    assert third == second
    kinds = dict(zip(found.attributes.column_names, found.attributes.schema.types, strict=True))
    assert kinds["price"] in (pa.int64(), pa.float64())
    assert [*kinds] == ["product", "category", "tags", "price", "weight", "sale", "title"]
    assert kinds["sale"] == pa.bool_()
    assert list(only(found, "val", {"z", "y", "other"}).ids) == ["y", "z"]


def test_numbers_that_are_not_finite_are_unknown(tmp_path: Path) -> None:
    lines = ["a.jpg,inf,1", "b.jpg,2.5,2", "c.jpg,-Infinity,1e999", "d.jpg,-nan,-inf"]
    (tmp_path / "products.csv").write_text("\n".join(["image,price,size", *lines]))
    found = of_folder(tmp_path).attributes
    assert found["price"].to_pylist() == [None, 2.5, None, None]
    assert found["size"].to_pylist() == [1, 2, None, None]


def table(root: Path, head: str, *lines: str) -> pa.Table:
    """The attributes of pictures 0, 1, … that a product table gives."""
    rows = [f"{number}.jpg{line and ';'}{line}" for number, line in enumerate(lines)]
    (root / "products.csv").write_text("\n".join([f"image;{head}", *rows]), encoding="utf-8")
    return of_folder(root).attributes


@pytest.mark.parametrize(
    ("cells", "read"),
    [
        (("F", "F"), ["F", "F"]),
        (("yes", "no"), [True, False]),
        (("True", "True"), [True, True]),
        (("true", ""), [True, None]),
        (("00123", "00124"), ["00123", "00124"]),
        (("0x10", "16"), ["0x10", "16"]),
        (("49,90", "7,50"), [49.9, 7.5]),
        (("€ 49,90", "€ 50"), [49.9, 50]),
        (("30 cm", "-"), ["30 cm", None]),
        (("0", "0.5"), [0, 0.5]),
        (("10", "10"), [10, 10]),
        (("", ""), [None, None]),
    ],
)
def test_cells_are_what_training_reads(
    tmp_path: Path, cells: tuple[str, str], read: list[object]
) -> None:
    found = table(tmp_path, "own;colour", *(f"{cell};red" for cell in cells))["own"]
    assert found.to_pylist() == read
    assert found.type != pa.null()


def test_spellings_of_a_value_are_one(tmp_path: Path) -> None:
    assert table(tmp_path, "colour", "Red", "red", "blue")["colour"].to_pylist() == [
        *("Red", "Red", "blue")
    ]


def test_a_column_that_is_called_as_the_ids_are_is_kept(tmp_path: Path) -> None:
    found = table(tmp_path, "id;product", "A;Shoe", "B;Boot")
    assert found.to_pydict() == {
        "product": ["A", "B"],
        "category": ["catalogue"] * 2,
        "product (table)": ["Shoe", "Boot"],
    }


def test_pictures_are_found_as_training_finds_them(tmp_path: Path) -> None:
    files(tmp_path, "a/000.png", "x.png", "y.ppm")
    (tmp_path / "products.csv").write_text("image\na/000\nX.PNG\ny.ppm\nnowhere\n")
    found = of_folder(tmp_path)
    assert dict(zip(found.ids, found.paths, strict=True)) == {
        "a/000": "a/000.png",
        "X": "x.png",
        "y.ppm": "y.ppm",
        "nowhere": "nowhere",
    }


def test_pictures_that_no_row_names_are_counted(tmp_path: Path) -> None:
    files(tmp_path, "a/000.png", "x.png", "new/z.jpg", "new/y.png", ".hidden/w.png")
    (tmp_path / "products.csv").write_text("image\na/000\nX.PNG\n")
    note = "2 images of the folder are in no row of products.csv, the first: new/y.png"
    assert of_folder(tmp_path).notes == [note]
    (tmp_path / "products.csv").write_text("image\na/000\nX.PNG\nnew/y\nnew/z.jpg\n")
    assert of_folder(tmp_path).notes == []


def test_no_folder_and_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a folder"):
        of_folder(tmp_path / "nowhere")
    with pytest.raises(UserError, match="has no images"):
        of_folder(tmp_path)


def test_images_of_a_data_set(tmp_path: Path) -> None:
    def row(image_id: str, category: str, status: str = "ok") -> ImageRow:
        path = f"images/{image_id}.jpg"
        return {
            "image_id": image_id,
            "category": category,
            "path": path,
            "width": 1,
            "height": 1,
            "status": status,
        }

    rows = [row("b", "dress"), row("a", "shirt"), row("c", "shirt", "corrupt")]
    found = of_images("garments", tmp_path, rows)
    assert list(found.ids) == ["a", "b"]
    assert found.attributes.to_pydict() == {"category": ["shirt", "dress"]}
    both = of_images("garments", tmp_path, [*rows, row("b", "top")])
    assert both.attributes.to_pydict() == {"category": [["shirt"], ["dress", "top"]]}
