"""Product tables as spreadsheets and programs write them."""

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rau.datasets.catalogue import products, sheet
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
        ("sep=§\nimage§colour\na.jpg§red\n", "the separator '§' is not ASCII"),
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
        with pytest.raises(UserError, match="2 rows, at most 1 are allowed"):
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
    with pytest.raises(UserError, match="not a complete Parquet file"):
        sheet.read(tmp_path / "t.parquet")
