"""A cheap listing of a user-provided folder, which changes when the folder does."""

from collections.abc import Iterator
from pathlib import Path

from rau.files import as_text, digest_file, walk
from rau.pictures import SUFFIXES

# Suffixes of tables and annotation files, including those of custom readers.
TABLES = (".csv", ".json", ".jsonl", ".parquet")


def listing(root: Path) -> Iterator[str]:
    """One line per file, in a fixed order: tables and annotations with digests, images with sizes.

    The lines do not depend on the location of the folder or when it was copied.
    """
    for folder, names in walk(root):
        for name in names:
            path = folder / name
            suffix = path.suffix.lower()
            if suffix in (*TABLES, *SUFFIXES) and path.is_file():
                what = digest_file(path) if suffix in TABLES else path.stat().st_size
                yield f"{as_text(path.relative_to(root).as_posix())} {what}"
