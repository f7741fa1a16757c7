"""What a data set's own folder holds, cheaply: a change of it changes the lines."""

import os
from pathlib import Path

from rau.files import as_text, digest_file
from rau.pictures import SUFFIXES

# What readers read, in every layout.
TABLES = (
    *("products.csv", "products.parquet", "pairs.csv", "feedback/*.csv", "relevance.parquet"),
    *("captions/*.json", "image_splits/*.json"),
    *("cirr/captions/*.json", "cirr/image_splits/*.json"),
)


def listing(root: Path) -> list[str]:
    """A line a file, sorted: tables and annotations with their digests, pictures with their sizes.

    Nothing in it depends on where the folder is or when it was copied there.
    """
    tables = {path for pattern in TABLES for path in root.glob(pattern) if path.is_file()}
    lines = [f"{_place(path, root)} {digest_file(path)}" for path in tables]
    for folder, inside, names in os.walk(root):
        inside[:] = [name for name in inside if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(SUFFIXES):
                path = Path(folder, name)
                lines.append(f"{_place(path, root)} {path.stat().st_size}")
    return sorted(lines)


def _place(path: Path, root: Path) -> str:
    return as_text(path.relative_to(root).as_posix())
