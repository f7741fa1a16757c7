"""What a data set's own folder holds, cheaply: a change of it changes the lines."""

from pathlib import Path

from rau.files import as_text, digest_file, walk
from rau.pictures import SUFFIXES

# Suffixes of tables and annotation files, including those of custom readers.
TABLES = (".csv", ".json", ".jsonl", ".parquet")


def listing(root: Path) -> list[str]:
    """A line a file, sorted: tables and annotations with their digests, pictures with their sizes.

    Nothing in it depends on where the folder is or when it was copied there.
    """
    lines = []
    for folder, names in walk(root):
        for name in names:
            path = folder / name
            suffix = path.suffix.lower()
            if suffix in (*TABLES, *SUFFIXES) and path.is_file():
                what = digest_file(path) if suffix in TABLES else path.stat().st_size
                lines.append(f"{as_text(path.relative_to(root).as_posix())} {what}")
    return sorted(lines)
