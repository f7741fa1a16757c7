"""What is indexed of a folder, with a product table and without."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from rau.errors import UserError
from rau.schemas import ImageRow
from rau.search.catalogue import of_folder, of_images


def files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_pictures_anywhere_below(tmp_path: Path) -> None:
    files(tmp_path, "b.jpg", "a/c.PNG", ".hidden/d.jpg", "a/.e.jpg", "a/notes.txt")
    found = of_folder(tmp_path)
    assert list(found.ids) == list(found.paths) == ["a/c.PNG", "b.jpg"]
    assert found.attributes.column_names == []


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_product_table(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame(
        {
            "id": ["z", "y"],
            "image": ["one.jpg", "sub/two.jpg"],
            "tags": ["red|blue", None],
            "price": [3, 4],
            "sale": [True, False],
            "size": ["L", None],
        }
    )
    path = tmp_path / f"products.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    found = of_folder(tmp_path)
    assert (list(found.ids), list(found.paths)) == (["y", "z"], ["sub/two.jpg", "one.jpg"])
    assert found.attributes.to_pylist() == [
        {"tags": None, "price": 4, "sale": False, "size": None},
        {"tags": ["red", "blue"], "price": 3, "sale": True, "size": "L"},
    ]
    kinds = [pa.list_(pa.string()), pa.int64(), pa.bool_(), pa.string()]
    assert found.attributes.schema.types == kinds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,picture\n1,a.jpg\n", "no column image"),
        ("image\n", "no rows"),
        ("id,image\n1,\n", "no image"),
        ("image\n/etc/passwd\n", "not below the table's folder"),
        ("image\na/../../b.jpg\n", "not below the table's folder"),
        ("id,image\n1,a.jpg\n1,b.jpg\n", "1 stands twice"),
    ],
)
def test_a_wrong_table_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "products.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        of_folder(tmp_path)


def test_no_folder_and_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a folder"):
        of_folder(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no pictures"):
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
