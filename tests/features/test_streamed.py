"""Feature files of any layout, read a block at a time."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from rau.errors import UserError
from rau.features import streamed
from rau.features.streamed import Stream, without
from rau.features.table import Features, Matrix, write_features

LIKE = Features(["a"], np.ones((1, 3), np.float16), {"encoder": "some", "key": "abc"})


def matrix(rows: int, value: float = 1.0) -> Matrix:
    found = np.arange(3 * rows, dtype=np.float16).reshape(rows, 3)
    found[0] = value
    return found


def write(
    path: Path, rows: int, sizes: list[int], key: str = "abc", first: int = 0, value: float = 1.0
) -> Path:
    """A table in row groups of these sizes, of ids that go on from `first`."""
    names = [f"{number:04}" for number in range(first, first + rows)]
    blocks = np.split(matrix(rows, value), np.cumsum(sizes)[:-1])
    write_features(path, "image_id", names, blocks, {"key": key})
    return path


def rows(stream: Stream) -> tuple[list[str], Matrix]:
    blocks = [block for unit in stream.units for block in stream.blocks(unit)]
    names = [name for block in blocks for name in block.ids.to_pylist()]
    return names, np.concatenate([block.features for block in blocks])


def test_a_folder_is_read_whole_in_units_and_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed, "BLOCK", 10)
    write(tmp_path / "a.parquet", 27, [4, 7, 16])
    write(tmp_path / "b.parquet", 5, [5], first=27)
    # As other systems leave them next to files that are copied.
    (tmp_path / "._a.parquet").write_bytes(b"\0")
    stream = Stream.open(tmp_path, LIKE)
    assert [(unit.path.name, unit.groups, unit.rows) for unit in stream.units] == [
        ("a.parquet", (0, 1), 11),
        ("a.parquet", (2,), 16),
        ("b.parquet", (0,), 5),
    ]
    sizes = [[len(block.ids) for block in stream.blocks(unit)] for unit in stream.units]
    assert sizes == [[10, 1], [10, 6], [5]]
    names, features = rows(stream)
    assert names == [f"{number:04}" for number in range(32)]
    np.testing.assert_array_equal(features, np.concatenate([matrix(27), matrix(5)]))


def test_tables_of_other_writers_are_stored_as_the_gallery_is(tmp_path: Path) -> None:
    path = tmp_path / "own.parquet"
    features = [[0.5, 1.0, 2.0], [3.0, 4.0, 5.0]]
    pd.DataFrame({"split": "x", "feature": features, "image_id": [7, 8]}).to_parquet(path)
    names, found = rows(Stream.open(path, LIKE))
    assert names == ["7", "8"]
    assert found.dtype == np.float16
    assert found.tolist() == features


def test_what_is_known_is_left_out(tmp_path: Path) -> None:
    stream = Stream.open(write(tmp_path / "a.parquet", 4, [4]), LIKE)
    (block,) = stream.blocks(stream.units[0])
    left = without(block, pa.array(["0001", "0009"]))
    assert left.ids.to_pylist() == ["0000", "0002", "0003"]
    np.testing.assert_array_equal(left.features, matrix(4)[[0, 2, 3]])


def test_the_digest_is_of_content_and_of_no_place(tmp_path: Path) -> None:
    def digest(name: str, **changed: Any) -> str:
        folder = tmp_path / name
        folder.mkdir()
        return Stream.open(write(folder / "x.parquet", 9, [4, 5], **changed), LIKE).digest

    own = digest("one")
    assert digest("two") == own
    # Neither size nor footer says that these are others.
    assert digest("three", value=2.0) != own
    assert digest("four", first=1) != own


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (np.zeros((2, 3)), "2 images are zero or not finite, the first: 'a'"),
        ([[1, 1, 1], [1, np.nan, 1]], "1 images are zero or not finite, the first: 'b'"),
        ([[1, 1, 1], [1, 7e4, 1]], "1 images are zero or not finite, the first: 'b'"),
        (np.ones((2, 4)), "'a' has 4 values, those of the gallery 3"),
    ],
)
def test_features_that_cannot_be_ranked_are_refused(tmp_path: Path, wrong: Any, said: str) -> None:
    path = tmp_path / "a.parquet"
    write_features(path, "image_id", ["a", "b"], [np.array(wrong, np.float32)], {})
    stream = Stream.open(path, LIKE)
    with pytest.raises(UserError, match=said):
        list(stream.blocks(stream.units[0]))


def test_files_that_do_not_belong_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a Parquet file nor a folder of them"):
        Stream.open(tmp_path / "nothing", LIKE)
    path = write(tmp_path / "a.parquet", 2, [2], key="other")
    with pytest.raises(UserError, match=r"another encoder \(key other\)"):
        Stream.open(path, LIKE)
    # The user's own features have the key of the user's files.
    Stream.open(path, Features(["a"], LIKE.matrix, {"encoder": "features.source", "key": "abc"}))
    pd.DataFrame({"id": ["a"], "feature": [[1.0, 2.0, 3.0]]}).to_parquet(path)
    with pytest.raises(UserError, match="no column image_id, but id, feature"):
        Stream.open(path, LIKE)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="not a complete Parquet file"):
        Stream.open(path, LIKE)


def test_a_flipped_bit_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", 400, [400])
    stream = Stream.open(path, LIKE)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a complete Parquet file"):
        list(stream.blocks(stream.units[0]))
