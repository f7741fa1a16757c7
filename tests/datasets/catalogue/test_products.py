"""Products and their pictures, and what is wrong with some tables."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rau.datasets.catalogue import products
from rau.datasets.catalogue.attributes import Labels
from rau.errors import UserError
from tests.catalogue import write_table


def read(root: Path, *rows: dict[str, Any]) -> products.Products:
    write_table(root, rows)
    return products.read(root)


def test_products_and_their_pictures(tmp_path: Path) -> None:
    inside = str((tmp_path / "f/g.jpg").absolute())
    found = read(
        tmp_path,
        {"Image": "a.jpg", "ID": "A", "Category": "Tees & Tops", "colour": "Red"},
        {"Image": "x\\b.jpg|./c.jpg", "ID": "B", "Category": "", "colour": ""},
        {"Image": "", "ID": "", "Category": "", "colour": ""},
        {"Image": inside, "ID": "B", "Category": "", "colour": "blue"},
        {"Image": "d.jpg", "ID": "A", "Category": "tees  & tops", "colour": "red"},
    )
    assert found.ids == ["A", "B"]
    assert found.categories == ["Tees Tops", "other"]
    assert found.images == [["A", "A#2"], ["B", "B#2", "B#3"]]
    assert found.places == {
        "A": "a.jpg",
        "A#2": "d.jpg",
        "B": "x/b.jpg",
        "B#2": "c.jpg",
        "B#3": "f/g.jpg",
    }
    (colour,) = found.attributes
    assert isinstance(colour, Labels)
    assert [colour.values[code] for code in colour.codes] == ["red", "blue"]
    assert found.usage == ["colour: categorical, 2 values"]


def test_products_without_a_category_join_one_that_is_named_other(tmp_path: Path) -> None:
    given = ("Other", "", "tee")
    found = read(tmp_path, *({"image": f"{n}.jpg", "category": c} for n, c in enumerate(given)))
    assert found.categories == ["Other", "Other", "tee"]
    assert found.notes == ["1 products have no category and are assigned to 'Other'"]


def test_ids_are_paths_where_none_are_given(tmp_path: Path) -> None:
    names = ("x/a.jpg", "x/b.jpg", "x/b.png", "x/b.jpg.png", "c")
    found = read(tmp_path, *({"image": name} for name in names))
    assert found.ids == ["x/a", "x/b.jpg", "x/b.png", "x/b.jpg.png", "c"]
    assert set(found.categories) == {"catalogue"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"picture": "a.jpg"}], "no column 'image', only 'picture'"),
        ([{"image": ""}], "row 2|is empty"),
        ([{"image": "a.jpg", "x": 1}, {"image": "", "x": 2}], "row 3, column 'image': no image"),
        ([{"image": "../a.jpg"}], "row 2, column 'image': '../a.jpg' is outside"),
        ([{"image": "a/../../b.jpg"}], "is outside"),
        ([{"image": "/etc/a.jpg"}], "is outside"),
        ([{"image": "C:\\a.jpg"}], "is outside"),
        ([{"image": "https://a.example/b.jpg"}], "is a URL"),
        ([{"image": "a.jpg|"}], "is not the path of an image"),
        ([{"image": "a.jpg", "x": 1}, {"image": "./a.jpg", "x": 2}], "is also in row 2"),
        ([{"image": "a.jpg|a.jpg"}], "is also in row 2"),
        ([{"image": "a.jpg", "id": ""}], "row 2, column 'id': no id"),
        ([{"image": "a.jpg", "id": "NA"}], r"row 2, column 'id': no id, .*unknown \(nan, na, "),
        ([{"image": "a.jpg", "id": "x" * 256}], "row 2, column 'id': 'x+' cannot be an id"),
        (
            [{"image": f"{n}.jpg", "id": "A", "colour": c} for n, c in enumerate(("x", "", "y"))],
            "row 4, column 'colour': differs from row 2 of the same id",
        ),
        (
            [{"image": f"{n}.jpg", "id": i} for n, i in enumerate(("A#2", "A", "A"))],
            "row 4: 'A#2' would name two images",
        ),
    ],
)
def test_faults_of_a_table(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, *rows)
    assert "\n" not in str(caught.value)


def test_what_is_no_text_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "products.csv"
    for content in (b"PK\x03\x04" + bytes(range(256)) * 9999, "image\na.jpg\n".encode("utf-16-le")):
        path.write_bytes(content)
        with pytest.raises(
            UserError, match=r"products\.csv is not a text file; save the table as CSV, in UTF-8"
        ):
            products.read(tmp_path)
    path.write_text('image,title\na.jpg,"open\n' + "b.jpg,more\n" * 10**6)
    with pytest.raises(UserError, match="longer than a megabyte, perhaps because a quote is not"):
        products.read(tmp_path)


def test_one_table_and_no_more(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"neither products\.csv nor products\.parquet"):
        products.read(tmp_path)
    pq.write_table(pa.table({"image": ["a.jpg"]}), tmp_path / "products.parquet")
    assert products.read(tmp_path).ids == ["a"]
    write_table(tmp_path, [{"image": "a.jpg"}])
    with pytest.raises(UserError, match=r"both products\.csv and products\.parquet"):
        products.read(tmp_path)


@pytest.mark.parametrize("place", ["products", "products.parquet", "."])
def test_a_table_in_several_files(tmp_path: Path, place: str) -> None:
    rows = [
        {"image": f"{number}.jpg", "id": number, "price": 1.5 * number, "colour": colour}
        for number, colour in enumerate(["red", "blue", "red", "blue"])
    ]
    (tmp_path / "one").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "one/products.parquet")
    (tmp_path / "many" / place).mkdir(parents=True)
    paths = [tmp_path / "many" / place / f"products-{number}.parquet" for number in range(2)]
    for path, own in zip(paths, (rows[:3], rows[3:]), strict=True):
        pq.write_table(pa.Table.from_pylist(own), path)
    one, many = products.read(tmp_path / "one"), products.read(tmp_path / "many")
    assert (many.files, many.path) == (paths, tmp_path / "many" / place)
    # macOS leaves such a file beside every file on a foreign disk.
    (paths[0].parent / f"._{paths[0].name}").write_bytes(b"\0")
    assert products.read(tmp_path / "many").files == paths
    assert (many.ids, many.places, many.cells) == (one.ids, one.places, one.cells)
    # A file without a column says nothing of it.
    pq.write_table(pa.table({"image": ["3.jpg"], "id": [3]}), paths[1])
    assert products.read(tmp_path / "many").cells["colour"] == ["red", "blue", "red", None]
    pq.write_table(pa.table({"image": ["4.jpg", "0.jpg"], "id": [3, 4]}), paths[1])
    said = r"row 2 of products-1\.parquet.*'0\.jpg' is also in row 1 of products-0\.parquet"
    with pytest.raises(UserError, match=said):
        products.read(tmp_path / "many")
    pq.write_table(pa.table({"image": [True]}), paths[1])
    with pytest.raises(UserError, match=r"the files of .* have different types: .*write it again"):
        products.read(tmp_path / "many")
