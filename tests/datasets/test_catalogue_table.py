"""Product tables as spreadsheets and programs write them, and what is wrong with some."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rau.datasets.catalogue import products, sheet
from rau.datasets.catalogue.attributes import Boolean, Labels, Numbers, Sets
from rau.datasets.catalogue.columns import attribute, spoken
from rau.errors import UserError
from tests.catalogue import write_table

ROWS = [
    {"image": "a.jpg", "colour": "rosé", "price": "1,5"},
    {"image": "b.jpg", "colour": "größer, rot", "price": ""},
]


def texts(path: Path) -> dict[str, list[str | None]]:
    return {name: cells.to_pylist() for name, cells in sheet.read(path).columns.items()}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_as_spreadsheets_write_it(tmp_path: Path, encoding: str, delimiter: str) -> None:
    write_table(tmp_path, ROWS, encoding=encoding, delimiter=delimiter)
    found = sheet.read(tmp_path / "products.csv")
    assert texts(tmp_path / "products.csv") == {
        "image": ["a.jpg", "b.jpg"],
        "colour": ["rosé", "größer, rot"],
        "price": ["1,5", None],
    }
    assert found.comma == (delimiter == ";")
    assert bool(found.notes) == (encoding == "cp1252")


def test_excels_hint_blank_lines_line_breaks_and_padding(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('sep=;\n image ;note;;\n\na.jpg;"two\nlines";;\nb.jpg; n/a ;;\n')
    assert texts(path) == {"image": ["a.jpg", "b.jpg"], "note": ["two\nlines", None]}
    path.write_bytes(b"image,note\ra.jpg,x\r")  # As old Macs end lines.
    assert texts(path) == {"image": ["a.jpg"], "note": ["x"]}
    path.write_text("image,note,\na.jpg,b,c\n")
    with pytest.raises(UserError, match="row 2 has more cells than the header"):
        sheet.read(path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "{}", "sep=;{}", "sep=;{}{}", "{}{}sep=;{}{}"])
def test_empty_lines_before_the_header(tmp_path: Path, start: str, end: str) -> None:
    path = tmp_path / "t.csv"
    lines = ["image;note", *(f"{n}.jpg;x" for n in range(40)), ""]
    path.write_bytes((start.replace("{}", end) + end.join(lines)).encode())
    assert texts(path) == {"image": [f"{n}.jpg" for n in range(40)], "note": ["x"] * 40}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("image,x\na.jpg,1\n,2\n\n", "row 3"),
        ("image,x\r\na.jpg,1\r\n,2\r\n", "row 3"),
        ("image,x\n\na.jpg,1\n\n\n,2\n", "data row 2"),
        ("\nimage,x\na.jpg,1\n,2\n", "data row 2"),
    ],
)
def test_rows_are_counted_as_a_user_sees_them(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "products.csv").write_text(content, newline="")
    with pytest.raises(UserError, match=f"csv, {said}, column 'image': no image"):
        products.read(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no header"),
        ("\n", "no header"),
        ("image,colour\n", "no rows"),
        ("image,colour", "no rows"),
        ("image,colour\na.jpg,red\nb.jpg\n", "row 3: Expected 2 columns, got 1"),
        ("image,,colour\na.jpg,1,red\n", "column 2 has no name"),
        ("image,Colour,colour\na.jpg,1,red\n", "duplicate column 'colour'"),
    ],
)
def test_what_is_no_table(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        sheet.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_table(tmp_path, ROWS)
    pq.write_table(pa.table({"image": ["a.jpg", "b.jpg"]}), tmp_path / "t.parquet")
    monkeypatch.setattr(sheet, "MAX_ROWS", 1)
    for name in ("products.csv", "t.parquet"):
        with pytest.raises(UserError, match="2 rows, 1 are the most"):
            sheet.read(tmp_path / name)
    monkeypatch.setattr(sheet, "MAX_UNPACKED", 1)
    monkeypatch.setattr(sheet, "MAX_BYTES", 1)
    for name in ("products.csv", "t.parquet"):
        with pytest.raises(UserError, match="than 1 bytes"):
            sheet.read(tmp_path / name)


def test_parquet_of_any_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "image": ["a.jpg", "b.jpg"],
            "id": pa.array([10.0, None]),
            "price": pa.array([1.5, float("nan")]),
            "size": pa.array([1.5, float("inf")]),
            "half": pa.array([np.float16(0.5), np.float16("-inf")]),
            "small": pa.array([1e-7, 5e-5]),
            "large": pa.array([1e17, 2.5e18], pa.float32()),
            "new": [True, None],
            "tags": [["x", None, "y"], None],
            "kind": pa.array(["shoe", "hat"]).dictionary_encode(),
            "day": [datetime.date(2024, 1, 2), None],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    assert texts(tmp_path / "t.parquet") == {
        "image": ["a.jpg", "b.jpg"],
        "id": ["10", None],
        "price": ["1.5", None],
        "size": ["1.5", None],
        "half": ["0.5", None],
        "small": ["1e-7", "0.00005"],
        "large": ["1e+17", "2.5e+18"],
        "new": ["true", None],
        "tags": ["x|y", None],
        "kind": ["shoe", "hat"],
        "day": ["2024-01-02", None],
    }
    pq.write_table(pa.table({"image": ["a"], "x": [{"a": 1}]}), tmp_path / "t.parquet")
    with pytest.raises(UserError, match="column 'x' contains struct"):
        sheet.read(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="not a whole Parquet file"):
        sheet.read(tmp_path / "t.parquet")


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
    assert found.pictures == [["A", "A#2"], ["B", "B#2", "B#3"]]
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


@pytest.mark.parametrize(
    ("cells", "comma", "numbers"),
    [
        (["1", "2.5", None, "-3"], False, [1, 2.5, np.nan, -3]),
        (["€ 1,50", "€2,25"], False, [1.5, 2.25]),
        (["$1,500", "$2,250,000.5"], False, [1500, 2250000.5]),
        (["1,500", "2"], True, [1.5, 2]),
        (["1.234,50", "7"], False, [1234.5, 7]),
        (["30 cm", "42cm"], False, [30, 42]),
        (["10 000", "1'500"], False, [10000, 1500]),
        (["1.299", "899", "49,90", "2.499,00"], False, [1299, 899, 49.9, 2499]),
        (["1.299", "1.234.567"], True, [1299, 1234567]),
        (["1.299", "0.500"], True, [1.299, 0.5]),
        (["1.299", "12.5", "7,5"], True, [1.299, 12.5, 7.5]),
        (["1.299", "2.5"], False, [1.299, 2.5]),
        (["1.299", "2.499"], False, [1.299, 2.499]),
        (["1,299", "2,499.50"], False, [1299, 2499.5]),
        (["1e-07", "5E-05", "2"], False, [1e-7, 5e-5, 2]),
        (["1.5e+17 m", "2e+3 m"], False, [1.5e17, 2000]),
    ],
)
def test_numbers_as_people_write_them(
    cells: list[str | None], comma: bool, numbers: list[float]
) -> None:
    found = attribute("price", cells, comma)
    assert isinstance(found, Numbers)
    np.testing.assert_array_equal(found.numbers, numbers)


@pytest.mark.parametrize(
    "cells",
    [
        ["42 EU", "9 US"],
        ["2024-01-05", "2024-01-06"],
        ["1.2.3", "1.2.4"],
        ["S", "M"],
        ["1E5", "2E7"],
        ["9e+300", "1"],
    ],
)
def test_what_is_no_number(cells: list[str]) -> None:
    assert isinstance(attribute("size", cells, False), Labels)


def test_kinds_of_columns() -> None:
    waterproof = attribute("waterproof", ["Yes", "no", None, "TRUE"], False)
    assert isinstance(waterproof, Boolean)
    assert waterproof.codes.tolist() == [1, 0, -1, 1]
    tags = attribute("tags", ["New|Sale", "sale", None, "new|odd", "new"], False)
    assert isinstance(tags, Sets)
    assert list(tags.values) == ["new", "sale"]
    assert tags.members[:, 0].tolist() == [True, False, False, True, True]
    assert tags.members[:, 1].tolist() == [True, True, False, False, False]
    # A value without a name still tells two sets apart.
    assert tags.codes[3] != tags.codes[4]
    colour = attribute("baseColour", ["Navy_Blue", "navy blue", "red"], False)
    assert isinstance(colour, Labels)
    assert (colour.words, list(colour.values)) == ("base colour", ["navy blue", "red"])


@pytest.mark.parametrize(
    ("name", "cells", "why"),
    [
        ("colour", [None, None], "empty"),
        ("colour", ["red", None, "red"], "same value for every product"),
        ("colour", ["red", "Red"], "same value for every product"),
        ("sku_id", ["1", "2"], "its name suggests"),
        (
            "about",
            ["a coat that is warm and dry in any weather", "one more " * 5] * 20,
            "free text",
        ),
        ("model", [f"m{n}" for n in range(30)], "a distinct value"),
        ("article", [str(n * 7 + 3) for n in range(30)], "a different integer"),
        ("tags", ["a|b", "c|d"], "no two products share"),
    ],
)
def test_what_is_no_attribute(name: str, cells: list[str | None], why: str) -> None:
    found = attribute(name, cells, False)
    assert isinstance(found, str)
    assert why in found


def test_prices_are_no_identifiers() -> None:
    assert isinstance(attribute("price", [f"{n}.99" for n in range(40)], False), Numbers)


def test_names_are_spoken_as_words() -> None:
    assert spoken("sleeveLength (cm)") == "sleeve length"
    assert spoken("heel_height") == "heel height"
    assert spoken("(none)") == "(none)"
