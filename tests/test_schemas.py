"""Tables are checked where they are read: columns, nulls, keys, and the values' limits."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rau.errors import UserError
from rau.schemas import (
    GALLERIES,
    IMAGES,
    MANIFEST,
    QUERIES,
    RANKINGS,
    read_csv,
    read_parquet,
    read_table,
    write_table,
)

ROWS: dict[str, tuple[pa.Schema, dict[str, Any]]] = {
    "manifest": (
        MANIFEST,
        {"image_id": "A", "path": "a.jpg", "sha256": "0", "status": "ok"},
    ),
    "images": (IMAGES, {"image_id": "A", "category": "dress", "path": "a.jpg", "status": "ok"}),
    "queries": (
        QUERIES,
        {
            "query_id": "1",
            "split": "val",
            "category": "dress",
            "reference_id": "A",
            "captions": ["red"],
        },
    ),
    "galleries": (GALLERIES, {"gallery": "original", "category": "dress", "image_id": "A"}),
    "rankings": (
        RANKINGS,
        {
            "query_id": "1",
            "method": "sum",
            "protocol": "val",
            "category": "dress",
            "text": "red",
            "reference_id": "A",
            "target_rank": 1,
            "average_precision": 1.0,
            "top": ["B"],
            "scores": [0.5],
        },
    ),
}


def write(path: Path, name: str, *changes: dict[str, Any]) -> pa.Schema:
    schema, row = ROWS[name]
    table = pa.Table.from_pylist([row | changed for changed in changes], schema=schema)
    write_table(path, table, schema)
    return schema


@pytest.mark.parametrize("name", ROWS)
def test_a_whole_table_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.parquet"
    schema = write(path, name, {})
    assert read_table(path, schema, "tables").num_rows == 1


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("manifest", [{}, {}], "duplicate image_id"),
        ("manifest", [{"image_id": None}], "image_id is null in 1 rows"),
        ("manifest", [{"status": "fine"}], "status is 'fine' in 1 rows"),
        ("manifest", [{"sha256": None}], "sha256 is null where the status is ok"),
        ("images", [{"path": None}], "path is null where the status is ok"),
        ("queries", [{}, {}], "duplicate split and query_id"),
        ("queries", [{"captions": []}], r"captions is '\[\]' in 1 rows"),
        ("queries", [{"captions": [None]}], "captions contains nulls"),
        ("queries", [{"reference_id": None}], "reference_id is null"),
        ("galleries", [{}, {}], "duplicate gallery and category and image_id"),
        ("rankings", [{"target_rank": 0}], "target_rank is '0'"),
        ("rankings", [{"average_precision": 1.5}], "average_precision is '1.5'"),
        ("rankings", [{"average_precision": np.nan}], "average_precision is not a number"),
        ("rankings", [{"top": [None]}], "top contains nulls"),
    ],
)
def test_impossible_values_are_named(
    tmp_path: Path, name: str, changes: list[dict[str, Any]], said: str
) -> None:
    path = tmp_path / "x.parquet"
    schema = write(path, name, *changes)
    with pytest.raises(UserError, match=rf"x\.parquet: {said}.*`python -m pipeline\.tables` again"):
        read_table(path, schema, "tables")


def test_text_that_is_no_utf8(tmp_path: Path) -> None:
    text = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 1], np.int32)), pa.py_buffer(b"\xff")]
    )
    pq.write_table(pa.table({"image_id": text}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match="not a complete Parquet file"):
        read_parquet(tmp_path / "x.parquet", "write it again")


def test_a_folder_named_like_a_column_is_none(tmp_path: Path) -> None:
    (tmp_path / "split=train").mkdir()
    path = tmp_path / "split=train/x.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    assert read_parquet(path, "").column_names == ["a"]


def test_a_file_that_may_not_be_read_is_no_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pq, "read_table", refuse)
    with pytest.raises(UserError, match=r"cannot read .*: Permission denied; write it again"):
        read_parquet(tmp_path / "x.parquet", "write it again")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a,b\n", "has no rows"),
        (b"a\n1\n", "has no column b"),
        (b"", "not a table"),
        (b"\xff\xfe\0", "not a table"),
        (b'a,b\n"1,2\n', "not a table"),
        (b"a,b\nx,y\n", "not a table"),
    ],
)
def test_a_csv_table_is_checked(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_csv(tmp_path / "x.csv", ["a", "b"], "write it again", np.float64)


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    schema = write(path, "queries", *({"query_id": str(n)} for n in range(500)))
    whole = path.read_bytes()
    for place in range(100, len(whole) // 2, 40):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        try:
            assert read_table(path, schema, "tables").num_rows == 500
        except UserError:
            continue
        again = read_table(path, schema, "tables")
        path.write_bytes(whole)
        assert again.equals(read_table(path, schema, "tables"))
