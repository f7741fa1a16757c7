"""Features of the user's own: what is needed is taken, a gap is named."""

from pathlib import Path

import numpy as np
import pytest

from rau.errors import UserError
from rau.features import precomputed
from rau.features.table import read_pair, write_features

NEEDED = {"images": ["b", "a"], "texts": ["Is red"]}


def write_source(folder: Path, images: list[str], value: float = 1.0) -> Path:
    matrix = np.arange(len(images) * 5, dtype=np.float16).reshape(-1, 5)
    matrix[0, 0] = value
    folder.mkdir()
    write_features(folder / "images.parquet", "image_id", images, [matrix], {})
    texts = np.ones((2, 3), np.float32)
    write_features(folder / "texts.parquet", "text", ["Is red", "unused"], [texts], {})
    return folder


def take(source: Path, folder: Path) -> dict[str, Path]:
    targets = {kind: folder / f"{kind}.parquet" for kind in NEEDED}
    precomputed.take(source, NEEDED, targets)
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


def test_gap_is_named_and_nothing_written(tmp_path: Path) -> None:
    source = write_source(tmp_path / "own", ["c", "d"])
    with pytest.raises(UserError, match=r"lacks 2 of 2 rows, the first: 'b', 'a'; .*--list"):
        take(source, tmp_path / "out")
    (source / "texts.parquet").unlink()
    with pytest.raises(UserError, match=r"texts\.parquet is missing"):
        take(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_features_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    source = write_source(tmp_path / "own", ["a", "b"], float("nan"))
    with pytest.raises(UserError, match="feature of 'a' is not finite"):
        take(source, tmp_path / "out")


def test_a_shared_space_is_said_so_and_has_one_width(tmp_path: Path) -> None:
    source = write_source(tmp_path / "own", ["a", "b"])
    targets = {kind: tmp_path / "out" / f"{kind}.parquet" for kind in NEEDED}
    with pytest.raises(UserError, match="images are 5 wide, texts 3"):
        precomputed.take(source, NEEDED, targets, shared_space=True)
    write_features(source / "texts.parquet", "text", ["Is red"], [np.ones((1, 5), np.float32)], {})
    precomputed.take(source, NEEDED, targets)
    apart = read_pair(targets["images"], targets["texts"])[0]
    precomputed.take(source, NEEDED, targets, shared_space=True)
    together = read_pair(targets["images"], targets["texts"])[0]
    assert (apart.shared_space, together.shared_space) == (False, True)
    assert apart.metadata["key"] != together.metadata["key"]
