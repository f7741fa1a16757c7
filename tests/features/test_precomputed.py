"""Precomputed features: tables of any writer are read; missing rows are named."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rau.errors import UserError
from rau.features import precomputed
from rau.features.table import read_pair, write_features

NEEDED = {"images": ["b", "a"], "texts": ["Is red"]}
VECTORS = [[0.5, 1.0, 2.0], [3.0, 4.0, 5.0], [6.0, 7.0, 8.0]]


def write_source(folder: Path, images: list[str], value: float = 1.0) -> Path:
    matrix = np.arange(len(images) * 5, dtype=np.float16).reshape(-1, 5)
    matrix[0, 0] = value
    folder.mkdir()
    write_features(folder / "images.parquet", "image_id", images, [matrix], {})
    texts = np.ones((2, 3), np.float32)
    write_features(folder / "texts.parquet", "text", ["Is red", "unused"], [texts], {})
    return folder


def take(
    source: Path, folder: Path, needed: Mapping[str, Sequence[str]] = NEEDED, shared: bool = False
) -> dict[str, Path]:
    targets = {kind: folder / f"{kind}.parquet" for kind in NEEDED}
    names = {kind: pa.array(own, pa.string()) for kind, own in needed.items()}
    precomputed.take(source, names, targets, shared)
    return targets


def test_what_is_needed_is_taken_in_order(tmp_path: Path) -> None:
    targets = take(write_source(tmp_path / "own", ["a", "b", "c"]), tmp_path / "out")
    images, texts = read_pair(targets["images"], targets["texts"])
    assert (images.names, texts.names) == (["b", "a"], ["Is red"])
    assert images.matrix[0].tolist() == [5, 6, 7, 8, 9]
    assert [str(f.matrix.dtype) for f in (images, texts)] == ["float16", "float32"]
    assert not images.shared_space


def test_other_features_have_another_key(tmp_path: Path) -> None:
    keys = []
    for name, value in (("one", 1.0), ("two", 2.0)):
        targets = take(write_source(tmp_path / name, ["a", "b"], value), tmp_path / f"{name}-out")
        keys.append(read_pair(targets["images"], targets["texts"])[0].metadata["key"])
    assert keys[0] != keys[1]


def as_pandas(path: Path) -> None:
    """A list column of float64, an extra column and an index, in another order."""
    frame = pd.DataFrame({"split": "val", "feature": VECTORS, "image_id": ["a", "b", "c"]})
    frame.iloc[::-1].to_parquet(path)


def as_index(path: Path) -> None:
    frame = pd.DataFrame({"image_id": ["a", "b", "c"], "feature": VECTORS}).set_index("image_id")
    frame.to_parquet(path)


def as_categories(path: Path) -> None:
    names = pd.Categorical(["a", "b", "c"])
    pd.DataFrame({"feature": list(np.array(VECTORS, np.float32)), "image_id": names}).to_parquet(
        path
    )


def as_folder(path: Path) -> None:
    path.mkdir()
    for row, name in enumerate("abc"):
        one = pd.DataFrame({"image_id": [name], "feature": VECTORS[row : row + 1]})
        one.to_parquet(path / f"part.{row}.parquet")


def as_shards(path: Path) -> None:
    for row, name in enumerate("abc"):
        one = pa.table({"image_id": pa.array([name], pa.large_string()), "feature": [VECTORS[row]]})
        pq.write_table(one, path.with_name(f"images-{row:05}-of-00003.parquet"))


def as_tensors(path: Path) -> None:
    flat = pa.FixedSizeListArray.from_arrays(np.array(VECTORS, np.float32).reshape(-1), 3)
    kind = pa.fixed_shape_tensor(pa.float32(), [3])
    column = pa.ExtensionArray.from_storage(kind, flat)
    pq.write_table(pa.table({"image_id": ["a", "b", "c"], "feature": column}), path)


@pytest.mark.parametrize(
    "write", [as_pandas, as_index, as_categories, as_folder, as_shards, as_tensors]
)
def test_tables_as_others_write_them(tmp_path: Path, write: Callable[[Path], None]) -> None:
    source = write_source(tmp_path / "own", ["a"])
    (source / "images.parquet").unlink()
    write(source / "images.parquet")
    images, _ = read_pair(*take(source, tmp_path / "out").values())
    assert images.matrix.tolist() == [VECTORS[1], VECTORS[0]]
    assert images.matrix.dtype == np.float32


def test_ids_as_integers(tmp_path: Path) -> None:
    source = write_source(tmp_path / "own", ["a"])
    frame = pd.DataFrame({"image_id": [12, 7], "feature": VECTORS[:2]})
    frame.to_parquet(source / "images.parquet")
    needed = {"images": ["7", "12"], "texts": ["Is red"]}
    images, _ = read_pair(*take(source, tmp_path / "out", needed).values())
    assert images.matrix.tolist() == [VECTORS[1], VECTORS[0]]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"id": ["a"], "feature": [[1.0]]}, "has no column image_id, but id, feature"),
        ({"image_id": ["a"], "vector": [[1.0]]}, "has no column feature, but image_id, vector"),
        ({"image_id": [1.5], "feature": [[1.0]]}, "image_id is double, not text or integers"),
        ({"image_id": ["a", None], "feature": [[1.0], [2.0]]}, "image_id is null in 1 rows"),
        ({"image_id": ["a"], "feature": [1.0]}, "feature is double, not lists of numbers"),
        ({"image_id": ["a"], "feature": ["[1.0, 2.0]"]}, "feature is string, not lists of numbers"),
        ({"image_id": ["a"], "feature": [[[1.0]]]}, "feature is list<.*>, not lists of numbers"),
        ({"image_id": ["a"], "feature": [b"1234"]}, "feature is binary, not lists"),
        ({"image_id": ["a", "b"], "feature": [[1.0], None]}, "feature is null, or holds a null"),
        ({"image_id": ["a", "b"], "feature": [[1.0], [None]]}, "feature is null, or holds a null"),
        (
            {"image_id": ["a", "b"], "feature": [[1.0], [1.0, 2.0]]},
            "feature of 'b' has 2 values, that of 'a' 1",
        ),
        (
            {"image_id": ["a", "b", "a"], "feature": [[1.0]] * 3},
            "1 of the 2 needed .* are there twice, the first: 'a'",
        ),
        (
            {"image_id": ["a", "b"], "feature": [[1.0], [float("nan")]]},
            "not finite, the first: 'b'",
        ),
        ({"image_id": ["a", "b"], "feature": [[1.0], [1e60]]}, "not finite, the first: 'b'"),
        (
            {"image_id": ["a", "b"], "feature": [[1.0], [0.0]]},
            "1 of the 2 needed .* are all zeros.*'b'; .*dataset.allow_missing=true",
        ),
        (
            {"image_id": ["a", "b"], "feature": [[0.0], [0.0]]},
            "2 of the 2 needed .* are all zeros, as where .* 'b', 'a'; encode them again$",
        ),
        ({"image_id": [], "feature": []}, "2 of the 2 needed .* are missing"),
    ],
)
def test_what_is_wrong_with_a_column_is_said(
    tmp_path: Path, columns: dict[str, Any], said: str
) -> None:
    source = write_source(tmp_path / "own", ["a"])
    table = pa.table(columns)
    if not len(table):
        empty = pa.schema([("image_id", pa.string()), ("feature", pa.list_(pa.float32()))])
        table = empty.empty_table()
    pq.write_table(table, source / "images.parquet")
    with pytest.raises(UserError, match=said) as caught:
        take(source, tmp_path / "out")
    assert "images" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    source = write_source(tmp_path / "own", ["a"])
    ids, features = pa.array(["a"]), pa.array([[1.0]])
    for name, columns in (("image_id", [ids, ids, features]), ("feature", [ids, *[features] * 2])):
        names = ["image_id", name, "feature"]
        pq.write_table(pa.Table.from_arrays(columns, names), source / "images.parquet")
        with pytest.raises(UserError, match=f"images.parquet has several columns {name}; rename"):
            take(source, tmp_path / "out")


def test_files_of_several_widths(tmp_path: Path) -> None:
    source = write_source(tmp_path / "own", ["a"])
    (source / "images.parquet").unlink()
    for name, feature in (("a", [1.0]), ("b", [1.0, 2.0])):
        one = pa.table({"image_id": [name], "feature": [feature]})
        pq.write_table(one, source / f"images-{name}.parquet")
    with pytest.raises(UserError, match=r"images-b\.parquet: the feature of 'b' has 2 values"):
        take(source, tmp_path / "out")


@pytest.mark.parametrize("order", [("a", "z"), ("z", "a")])
def test_files_of_several_precisions(tmp_path: Path, order: tuple[str, str]) -> None:
    source = write_source(tmp_path / "own", ["a"])
    (source / "images.parquet").unlink()
    half = pa.array([[np.float16(1.0)]], pa.list_(pa.float16()))
    single = pa.array([[70000.0]], pa.list_(pa.float32()))
    for number, (name, feature) in enumerate(zip(order, (half, single), strict=True)):
        one = pa.table({"image_id": [name], "feature": feature})
        pq.write_table(one, source / f"images-{number}.parquet")
    needed = {"images": ["z"], "texts": ["Is red"]}
    images, _ = read_pair(*take(source, tmp_path / "out", needed).values())
    assert images.matrix.tolist() == [[70000.0 if order == ("a", "z") else 1.0]]


def test_gap_is_named_and_nothing_written(tmp_path: Path) -> None:
    source = write_source(tmp_path / "own", ["c", "d"])
    with pytest.raises(
        UserError, match=r"2 of the 2 .* are missing, the first: 'b', 'a'; .*--list"
    ):
        take(source, tmp_path / "out")
    (source / "texts.parquet").unlink()
    with pytest.raises(UserError, match=r"texts\.parquet is missing"):
        take(source, tmp_path / "out")
    (source / "texts.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(
        UserError, match=r"texts\.parquet is not a complete Parquet file; see docs/datasets"
    ):
        take(source, tmp_path / "out", {"images": ["d"], "texts": []})
    assert not (tmp_path / "out").exists()


def test_a_shared_space_is_said_so_and_has_one_width(tmp_path: Path) -> None:
    source = write_source(tmp_path / "own", ["a", "b"])
    with pytest.raises(UserError, match="images have dimension 5 and texts 3"):
        take(source, tmp_path / "out", shared=True)
    write_features(source / "texts.parquet", "text", ["Is red"], [np.ones((1, 5), np.float32)], {})
    apart = read_pair(*take(source, tmp_path / "out").values())[0]
    together = read_pair(*take(source, tmp_path / "out", shared=True).values())[0]
    assert (apart.shared_space, together.shared_space) == (False, True)
    assert apart.metadata["key"] != together.metadata["key"]
