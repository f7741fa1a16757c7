"""Encoded rows on disk, in parts that are written once.

A part's name holds its SHA-256: one that was damaged is removed, and its rows are encoded again.
Processes of several machines may write to one folder at a time, since a part is there whole or not
at all, and a row that is there twice counts once.
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
# A large model may take longer for so many rows than one likes to lose.
PART_SECONDS = 300
Dtype = Literal["float16", "float32"]


@dataclass(frozen=True)
class Parts:
    """Where the parts of one kind lie, and the type that their features are stored in."""

    folder: Path
    kind: str
    dtype: Dtype

    def write(self, batches: Encoded[Kind], advance: Callable[[int], object]) -> list[str]:
        """Write items and their features as they come.

        Args:
            batches: is closed at the end.
            advance: called with the number of items of every batch.

        Returns:
            The names of the parts.

        Raises:
            UserError: when the disk is full, or a feature is too large for the type.
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
        """The parts that are there; what killed processes left of others is removed."""
        for old in abandoned(self.folder.glob(f".{self.kind}-*.tmp")):
            old.unlink(missing_ok=True)
        return sorted(path.name for path in self.folder.glob(f"{self.kind}-*.arrow"))

    def whole(self, names: Iterable[str]) -> Iterator[tuple[Path, list[str]]]:
        """The parts of these names that are whole, and the keys of their rows."""
        for path in (self.folder / name for name in names):
            try:
                whole = path.stem == f"{self.kind}-{digest_file(path)}"
            except FileNotFoundError:
                continue  # Another process removed it.
            if whole:
                yield path, _column(path, "key").to_pylist()
            else:
                tqdm.write(f"{path} is damaged: removed, its rows are encoded again")
                path.unlink(missing_ok=True)


class Index:
    """Where the rows of parts are, by the digests of their keys; 24 bytes a row."""

    def __init__(self) -> None:
        self._paths: list[Path] = []
        self._starts = [0]
        self._lookup = Lookup(digests(()))

    def add(self, parts: Iterable[tuple[Path, Sequence[str]]]) -> None:
        """Take in parts with the keys of their rows."""
        found = [self._lookup.digests()]
        for path, keys in parts:
            self._paths.append(path)
            self._starts.append(self._starts[-1] + len(keys))
            found.append(digests(keys))
        if len(found) > 1:
            # Of a row that is there twice, the one that came first stands first.
            self._lookup = Lookup(np.concatenate(found))

    def find(self, wanted: Digests) -> Rows:
        """The row of each digest, counted through all parts; -1 where there is none."""
        return self._lookup.find(wanted)

    def features(self, rows: Rows) -> Matrix:
        """Features (N, d) of rows that `find` gave."""
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
    """A part's features: only what is taken of them is read."""
    return to_matrix(_column(path, "feature", memory_map=True))


def _column(path: Path, name: str, memory_map: bool = False) -> pa.ChunkedArray:
    """A column of a part."""
    return patiently(
        lambda: feather.read_table(path, columns=[name], memory_map=memory_map).column(name)
    )
