"""Feature tables from Parquet: seconds, and memory beside the one matrix that must be there."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from bench.harness import Bench, Result
from bench.peak import peak_bytes
from bench.sizes import FASHIONIQ, WIDTHS, random_features
from rau.features.table import Features, read_features, write_features
from rau.retrieval.feature_set import FeatureSet

LIMIT_SECONDS = 1.0
# The matrix once, 5 % for names, and the reader's buffers, which do not grow with the rows.
LIMIT = 1.25
LIMIT_WIDTH = 1024
FEW = 8


def cases(bench: Bench) -> Iterator[Result]:
    """FashionIQ's images at several widths, float16, from a warm page cache."""
    for width in WIDTHS:
        count = bench.size(FASHIONIQ.images)
        path, few = (_table(bench.scratch, n, width) for n in (count, FEW))
        name = f"{FASHIONIQ.name}/{width}"
        yield bench.timed(f"loading/{name}", partial(_load, path), LIMIT_SECONDS)
        limit = LIMIT if width == LIMIT_WIDTH and bench.scale == 1 else None
        yield _memory(f"loading/memory/{name}", path, few, 2 * count * width, limit)
        path.unlink()


def _table(folder: Path, count: int, width: int) -> Path:
    path = folder / f"loading-{count}-{width}.parquet"
    names = [f"B{row:09}" for row in range(count)]
    matrix = random_features(count, width, dtype=torch.float16).numpy()
    write_features(path, "image_id", names, matrix, {})
    return path


def _load(path: Path) -> FeatureSet:
    """To tensors on the CPU, as training takes them."""
    images = read_features(path, "image_id")
    return FeatureSet.on(torch.device("cpu"), images, Features([], images.matrix[:0], {}))


def _memory(name: str, path: Path, few: Path, size: int, limit: float | None) -> Result:
    """What many rows take beyond what a few take, relative to their matrix."""
    least, most = (peak_bytes(_load, each)[1] for each in (few, path))
    return Result(
        name,
        (most - least) / size,
        "x",
        "the matrix alone",
        limit,
        detail={"bytes": most, "few_bytes": least, "matrix_bytes": size},
    )
