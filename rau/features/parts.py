"""Encoded rows on disk, in parts that are written once.

A part's name contains its SHA-256: a damaged part is removed, and its rows are encoded again.
Processes of several machines may write to one folder at the same time, since parts are written
atomically, and duplicate rows count once.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from pyarrow import feather

from rau.digests import Digests, Lookup, Rows, digests
from rau.errors import UserError
from rau.features.extraction import Encoded
from rau.features.items import Kind
from rau.features.table import Matrix, to_array, to_matrix
from rau.files import abandoned, digest_file, patiently, write_bytes
from rau.progress import tqdm

PART_ROWS = 2048
# A large model may need too long for so many rows to lose them.
PART_SECONDS = 300
Dtype = Literal["float16", "float32"]


@dataclass(frozen=True)
class Parts:
    """The folder of the parts of one kind, and the dtype of their features."""

    folder: Path
    kind: str
    dtype: Dtype

    def write(self, batches: Encoded[Kind], advance: Callable[[int], object]) -> list[str]:
        """Write items and their features while they are encoded.

        Args:
            batches: items and features; closed at the end.
            advance: called with the number of items of every batch.

        Returns:
            The names of the parts.

        Raises:
            UserError: if the disk is full, or a feature exceeds the range of the dtype.
        """
        names: list[str] = []
        keys: list[str] = []
        rows: list[Matrix] = []
        since = time.monotonic()
        with closing(batches):
            for chunk, features in batches:
                if not np.abs(features).max() <= np.finfo(self.dtype).max:
                    raise UserError(f"the encoder gave a feature that {self.dtype} cannot hold")
                keys += [item.key for item in chunk]
                rows.append(features.astype(self.dtype))
                advance(len(chunk))
                if len(keys) >= PART_ROWS or time.monotonic() - since > PART_SECONDS:
                    names.append(self._write(keys, rows))
                    keys, rows, since = [], [], time.monotonic()
        return [*names, self._write(keys, rows)] if keys else names

    def _write(self, keys: list[str], rows: list[Matrix]) -> str:
        table = pa.table({"key": keys, "feature": to_array(np.concatenate(rows))})
        content = pa.BufferOutputStream()
        feather.write_feather(table, content, compression="uncompressed")
        data = content.getvalue()
        name = f"{self.kind}-{hashlib.sha256(data).hexdigest()}.arrow"
        write_bytes(self.folder / name, data, tidy=False)
        return name

    def names(self) -> list[str]:
        """Names of the parts; temporary files of killed processes are removed."""
        for old in abandoned(self.folder.glob(f".{self.kind}-*.tmp")):
            old.unlink(missing_ok=True)
        return sorted(path.name for path in self.folder.glob(f"{self.kind}-*.arrow"))

    def whole(self, names: Iterable[str]) -> Iterator[tuple[Path, list[str]]]:
        """The intact parts of these names, and the keys of their rows."""
        for path in (self.folder / name for name in names):
            try:
                whole = path.stem == f"{self.kind}-{digest_file(path)}"
            except FileNotFoundError:
                continue  # Another process removed it.
            if whole:
                yield path, _column(path, "key").to_pylist()
            else:
                tqdm.write(f"{path} is damaged and was removed; its rows are encoded again")
                path.unlink(missing_ok=True)


class Index:
    """Maps digests of keys to rows of parts; 24 bytes per row."""

    def __init__(self) -> None:
        self._paths: list[Path] = []
        self._starts = [0]
        self._lookup = Lookup(digests(()))

    def add(self, parts: Iterable[tuple[Path, Sequence[str]]]) -> None:
        """Add parts with the keys of their rows."""
        found = [self._lookup.digests()]
        for path, keys in parts:
            self._paths.append(path)
            self._starts.append(self._starts[-1] + len(keys))
            found.append(digests(keys))
        if len(found) > 1:
            # Of duplicate rows, the one that was added first comes first.
            self._lookup = Lookup(np.concatenate(found))

    def find(self, wanted: Digests) -> Rows:
        """The row of each digest over all parts; -1 if there is none."""
        return self._lookup.find(wanted)

    def features(self, rows: Rows) -> Matrix:
        """Features (N, d) of rows that `find` returned."""
        starts = np.array(self._starts)
        part_of = starts.searchsorted(rows, side="right") - 1
        numbers = np.unique(part_of)
        own = [np.flatnonzero(part_of == number) for number in numbers]
        found = [
            _mapped(self._paths[number])[rows[places] - starts[number]]
            for number, places in zip(numbers, own, strict=True)
        ]
        return np.concatenate(found)[np.concatenate(own).argsort()]


def _mapped(path: Path) -> Matrix:
    """A part's features, memory-mapped: only rows that are used are read."""
    return to_matrix(_column(path, "feature", memory_map=True))


def _column(path: Path, name: str, memory_map: bool = False) -> pa.ChunkedArray:
    """A column of a part."""
    return patiently(
        lambda: feather.read_table(path, columns=[name], memory_map=memory_map).column(name)
    )
