"""What a damaged picture or a store that throttles costs: one line or a wait, and nothing else."""

import errno
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather

from rau.errors import UserError
from rau.features import parts
from rau.features.items import image_items
from rau.features.table import read_features
from rau.schemas import MANIFEST
from tests.features.test_features import Fake, items, make

COUNT = 10**5


@pytest.fixture(autouse=True)
def folder_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_one_picture_of_many_that_changed_is_named_and_encoded_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 1)
    digests = [item.key for item in items(2)]
    # All other pictures are copies of one, which is encoded once.
    place = np.zeros(COUNT, np.int32)
    place[COUNT // 2] = 1
    columns: dict[str, Any] = {
        name: pa.nulls(COUNT, MANIFEST.field(name).type) for name in MANIFEST.names
    }
    columns |= {
        "image_id": pa.array(np.arange(COUNT)).cast(pa.string()),
        "sha256": pa.array(digests).take(pa.array(place)),
        "path": pa.array(place).cast(pa.string()),
        "status": pa.array(["ok"]).take(pa.array(np.zeros(COUNT, np.int32))),
    }
    listed = image_items(pa.table(columns), tmp_path)
    Path("1").write_text("2")
    first, second = Fake(), Fake()
    with pytest.raises(UserError, match=rf"^{tmp_path}/1 has changed since `download`"):
        make(tmp_path, first).fill("images", listed, 1, 1)
    Path("1").write_text("1")
    make(tmp_path, second).fill("images", listed[COUNT // 2 - 1 : COUNT // 2 + 1], 1, 1)
    assert (first.seen, second.seen) == (["0"], ["1"])


def test_parts_in_a_store_that_throttles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = list[float]()
    monkeypatch.setattr("time.sleep", waits.append)

    def every_other(work: Callable[..., Any]) -> Callable[..., Any]:
        """The same, where every first call of two fails."""
        calls: list[None] = []

        def throttled(*values: Any, **options: Any) -> Any:
            calls.append(None)
            if len(calls) % 2:
                raise OSError(errno.EIO, "Input/output error")
            return work(*values, **options)

        return throttled

    make(tmp_path, Fake()).encode_images(tmp_path / "a.parquet", items(3), 2, 1)
    listed = items(5)
    for place, name in (
        (feather, "read_table"),
        (tempfile, "mkstemp"),
        (Path, "open"),
        (Path, "replace"),
    ):
        monkeypatch.setattr(place, name, every_other(getattr(place, name)))
    again = Fake()
    make(tmp_path, again).encode_images(tmp_path / "b.parquet", listed, 2, 1)
    monkeypatch.undo()
    assert again.seen == ["3", "4"]
    assert read_features(tmp_path / "b.parquet", "image_id").matrix[:, 0].tolist() == [*range(5)]
    assert set(waits) == {1.0}
