"""Differences between a catalogue and an index, computed by column."""

import os
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rau.digests import Lookup, digests
from rau.search.catalogue import Catalogue
from rau.search.index import Index, Rows
from rau.search.model import Model
from rau.search.segments import IMAGES, taken

Mask = NDArray[np.bool_]
_ROWS = 4096


class File(NamedTuple):
    """Digest, size and time of an image's file."""

    sha256: str
    bytes: int
    mtime_ns: int


class Files:
    """The files of a catalogue's M images by position, 49 bytes each.

    Attributes:
        there: mask (M,) of the images whose file is known.
    """

    def __init__(self, count: int) -> None:
        self._digests = np.zeros((count, 32), np.uint8)
        self._numbers = np.zeros((count, 2), np.int64)
        self.there: Mask = np.zeros(count, np.bool_)

    def __setitem__(self, place: int, file: File) -> None:
        self._digests[place] = np.frombuffer(bytes.fromhex(file.sha256), np.uint8)
        self._numbers[place] = file.bytes, file.mtime_ns
        self.there[place] = True

    def __getitem__(self, place: int) -> File:
        size, time = self._numbers[place].tolist()
        return File(self._digests[place].tobytes().hex(), size, time)


@dataclass
class Changes:
    """Changes by a build, as numbers of images; `unreadable` maps paths to reasons."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    kept: int = 0
    encoded: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        left = f", {len(self.unreadable):,} cannot be read" if self.unreadable else ""
        return (
            f"{self.added:,} added, {self.changed:,} changed, {self.removed:,} removed, "
            f"{self.kept:,} unchanged{left}; {self.encoded:,} encoded"
        )


@dataclass(frozen=True)
class Before:
    """The N images of an index before a build, matched with the M images of a catalogue.

    Attributes:
        same: whether its vectors are of this model and can be kept.
        known: whether its features are of this encoder and can be used.
        images, attributes: N rows.
        places: segment and row of each image, (N, 2).
        row: position of each of the catalogue's images among the N, (M,); -1 if it is new.
    """

    index: Index | None
    same: bool
    known: bool
    images: pa.Table
    attributes: pa.Table
    places: Rows
    row: Rows

    @classmethod
    def of(cls, old: Index | None, model: Model, catalogue: Catalogue) -> Self:
        """Match an index, if there is one, with a catalogue."""
        if old is None:
            none, nowhere = np.empty((0, 2), np.int64), np.full(len(catalogue), -1)
            return cls(None, False, False, IMAGES.empty_table(), pa.table({}), none, nowhere)
        alive = [(n, one, old.alive(n)) for n, one in enumerate(old.segments)]
        tables = [taken(one.images, rows) for _, one, rows in alive]
        images = pa.concat_tables(tables).combine_chunks()
        row = pc.index_in(pa.array(catalogue.ids, pa.large_string()), images["id"])
        return cls(
            old,
            old.manifest.model == model.key,
            old.manifest.features == model.features_key,
            images,
            pa.concat_tables([taken(one.attributes, rows) for _, one, rows in alive]),
            np.concatenate([np.stack([np.full(len(rows), n), rows], 1) for n, _, rows in alive]),
            row.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64),
        )

    @cached_property
    def contents(self) -> Lookup:
        """The row of an image with usable features for each SHA-256 of a file."""
        own = self.images["sha256"] if self.known else pa.chunked_array([], pa.large_string())
        blocks = (own.slice(start, _ROWS).to_pylist() for start in range(0, len(own), _ROWS))
        return Lookup(np.concatenate([digests(()), *map(digests, blocks)]))

    def files(self, rows: Rows) -> list[File]:
        """The files of some rows, as they were indexed."""
        columns = taken(self.images.select(File._fields), rows).to_pydict().values()
        return [File(*one) for one in zip(*columns, strict=True)]

    def unchanged(self, catalogue: Catalogue) -> Mask:
        """Mask (M,) of the catalogue's images whose file has the same path, size and time."""
        root, paths = os.fspath(catalogue.root), catalogue.paths
        was = self.images["path"].take(pa.array(self.row, mask=self.row < 0))
        same = pc.equal(pa.array(paths, pa.large_string()), was).fill_null(False)
        places = np.flatnonzero(same.to_numpy() & self.known)
        # Images of a data set may lie outside its folder; their paths are absolute.
        files = (os.path.join(root, paths[place]) for place in places.tolist())  # noqa: PTH118
        stats = chain.from_iterable(map(_stat, files))
        rows = self.row[places]
        seen = [self.images[name].to_numpy()[rows] for name in File._fields[1:]]
        found = np.zeros(len(catalogue), np.bool_)
        now = np.fromiter(stats, np.int64, 2 * len(places)).reshape(-1, 2)
        found[places] = (now == np.stack(seen, 1)).all(1)
        return found


def _stat(path: str) -> tuple[int, int]:
    """Size and time of a file; (-1, -1) if it is missing."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def compare(
    catalogue: Catalogue,
    before: Before,
    unchanged: Mask,
    files: Files,
    changes: Changes,
) -> tuple[Rows, list[str]]:
    """Positions of the catalogue to be written, and ids of the index to be removed.

    Args:
        unchanged: mask of the files that were not read, (M,).
        files: the files that were read, by position.
        changes: updated with the counts.
    """
    there = unchanged | files.there
    both = np.flatnonzero(there & (before.row >= 0))
    rows = before.row[both]
    same_content = unchanged[both]
    same_file = same_content.copy()
    read = np.flatnonzero(~same_content)
    for n, seen in zip(read.tolist(), before.files(rows[read]), strict=True):
        now = files[int(both[n])]
        same_content[n], same_file[n] = now.sha256 == seen.sha256, now == seen
    like = _like(taken(catalogue.attributes, both), taken(before.attributes, rows), len(both))
    changes.kept = int((same_content & like).sum())
    changes.changed = len(both) - changes.kept
    changes.removed = len(before.images) - len(both)
    changes.added = int(there.sum()) - len(both)
    paths = pa.array(catalogue.paths, pa.large_string()).take(pa.array(both))
    same_path = pc.equal(paths, before.images["path"].take(pa.array(rows)))
    stays = same_file & like & same_path.to_numpy() & before.same
    there[both[stays]] = False
    gone = np.full(len(before.images), True)
    gone[rows[stays]] = False
    return np.flatnonzero(there), before.images["id"].filter(pa.array(gone)).to_pylist()


def _like(new: pa.Table, old: pa.Table, count: int) -> Mask:
    """Mask of the equal rows of two tables of attributes with `count` rows."""
    like = np.full(count, new.schema == old.schema)
    if not like.all() or not new.column_names:
        return like
    for start in range(0, count, _ROWS):
        ours, theirs = new.slice(start, _ROWS), old.slice(start, _ROWS)
        if not ours.equals(theirs):
            pairs = zip(ours.to_pylist(), theirs.to_pylist(), strict=True)
            like[start : start + _ROWS] = [a == b for a, b in pairs]
    return like
