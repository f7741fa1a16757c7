"""Manifests as tables, for tests."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from rau.datasets import manifest
from rau.schemas import MANIFEST


def built(
    root: Path,
    images: Mapping[str, Path | None],
    sources: Mapping[str, str],
    workers: int,
    placeholders: bool = False,
) -> pa.Table:
    """All rows of a manifest."""
    rows = manifest.rows(root, images, sources, workers, placeholders)
    return pa.Table.from_batches(rows, MANIFEST)
