"""Memory per image: stages that a large catalogue passes hold columns and digests, not objects.

A string in a list takes 66 bytes, a path or a row as a dictionary ten times that. A stage that goes
back to holding them exceeds its bound.
"""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from rau.datasets.locate import Located
from rau.datasets.watched import listing
from rau.digests import digests
from rau.features import items, precomputed
from rau.features.parts import Index
from rau.features.table import write_blocks
from rau.schemas import MANIFEST, read_table, write_batches
from rau.search.segments import IMAGES, Block, Segment, write_segment

WIDTH = 8


def names(count: int) -> list[str]:
    return [f"{number:08}" for number in range(count)]


def located(folder: Path, count: int) -> Callable[[], object]:
    ids = names(count)
    for name in ids:
        (folder / f"{name}.jpg").touch()

    def work() -> object:
        images = Located(folder, ids, lambda image_id: [image_id])
        assert all(path is not None for path in images.values())
        return images

    return work


def watched(folder: Path, count: int) -> Callable[[], object]:
    for number, name in enumerate(names(count)):
        place = folder / str(number // 1000)
        place.mkdir(exist_ok=True)
        (place / f"{name}.jpg").touch()
    return lambda: sum(1 for _ in listing(folder))


def manifest_items(folder: Path, count: int) -> Callable[[], object]:
    """Reading a manifest and finding all its images among encoded parts."""
    path = folder / "manifest.parquet"
    row = {"source": "the folder", "status": "ok"}
    rows = [
        {**row, "image_id": name, "path": f"{name}.jpg", "sha256": f"{int(name):064x}"}
        for name in names(count)
    ]
    write_batches(path, [pa.RecordBatch.from_pylist(rows, schema=MANIFEST)], MANIFEST, {})

    def work() -> object:
        found = read_table(path, MANIFEST, "download", (*items.COLUMNS, "status"))
        images = items.image_items(found, folder)
        index = Index()
        blocks = items.blocks(images, 1000)
        index.add((folder / "part", [item.key for item in block]) for block in blocks)
        keys = [digests(item.key for item in block) for block in items.blocks(images, 1000)]
        assert (index.find(np.concatenate(keys)) >= 0).all()
        return images

    return work


def source(folder: Path, count: int) -> Callable[[], object]:
    features = np.ones((count, WIDTH), np.float16)
    pieces = range(0, count, 1000)
    blocks = (
        (names(count)[start : start + 1000], features[start : start + 1000]) for start in pieces
    )
    write_blocks(folder / "images.parquet", "image_id", blocks, {})
    write_blocks(folder / "texts.parquet", "text", [(["a"], features[:1])], {})
    needed = {"images": pa.array(names(count)), "texts": pa.array(["a"])}
    targets = {kind: folder / "out" / f"{kind}.parquet" for kind in needed}
    return lambda: precomputed.take(folder, needed, targets)


def segment(folder: Path, count: int) -> Callable[[], object]:
    """Opening an index; digests of files are not read."""
    ids = names(count)
    stat = [1] * count
    pictures = pa.table([ids, ids, [f"{int(n):064x}" for n in ids], stat, stat], IMAGES)
    vectors = np.ones((count, 1), np.float16)
    block = Block(pictures, pa.table({"price": stat}), vectors, vectors, [b"jpeg"] * count)
    write_segment(folder / "one", [block])
    return lambda: Segment(folder / "one", count, 1, 1)


@pytest.mark.parametrize(
    ("prepared", "small", "most"),
    [
        (located, 1_000, 200),
        (watched, 1_000, 60),
        (manifest_items, 10_000, 200),
        (source, 10_000, 150),
        (segment, 10_000, 120),
    ],
)
def test_bytes_per_image(
    tmp_path: Path, prepared: Callable[[Path, int], Callable[[], object]], small: int, most: float
) -> None:
    found = []
    # The first run also pays for what is loaded once; sizes are above those of blocks.
    for number, count in enumerate((small, small, 3 * small)):
        folder = tmp_path / str(number)
        folder.mkdir()
        found.append(_peak(prepared(folder, count)))
    assert 0 < (found[2] - found[1]) / (2 * small) < most


def _peak(work: Callable[[], object]) -> int:
    """Peak of Python's and numpy's memory, and what Arrow allocated at the end."""
    arrow = pa.total_allocated_bytes()
    tracemalloc.start()
    kept = work()
    peak = tracemalloc.get_traced_memory()[1] + pa.total_allocated_bytes() - arrow
    tracemalloc.stop()
    del kept
    return int(peak)
