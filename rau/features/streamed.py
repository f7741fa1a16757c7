"""Any number of image features, read from Parquet in blocks: they are never all in memory.

A file, or a folder of files, with image_id and feature, as in `rau.features.precomputed`; hidden
files are left out.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rau.errors import UserError
from rau.features.precomputed import REMEDY, SOURCE, check_columns, read_blocks
from rau.features.table import Features, Matrix
from rau.files import shown
from rau.schemas import reading_parquet

# Rows that are read and processed at a time.
BLOCK = 65_536
COLUMNS = ("image_id", "feature")
# Bytes of each column of each row group that are hashed; the rest is not read.
SAMPLED_BYTES = 4096
# Bytes after a Parquet file's footer: its length and "PAR1".
FOOTER_END = 8


class Unit(NamedTuple):
    """Consecutive row groups of a file, with at least `BLOCK` rows if the file has as many."""

    path: Path
    groups: tuple[int, ...]
    rows: int


class Block(NamedTuple):
    """Some images: N ids and (N, d) features."""

    ids: pa.Array
    features: Matrix


@dataclass(frozen=True)
class Stream:
    """Feature files that belong to the features of a gallery.

    Attributes:
        units: all rows, in pieces that different machines can read.
        digest: digest of the files' contents, independent of their paths. It covers the size and
            the first values of every row group: hashing everything would mean reading everything.
    """

    units: list[Unit]
    digest: str
    width: int
    dtype: np.dtype[np.generic]

    @classmethod
    def open(cls, source: Path, like: Features) -> Self:
        """Find the files.

        Args:
            source: a Parquet file, or a folder of some.
            like: the features of the gallery, of the same encoder.

        Raises:
            UserError: if there is none, or one is damaged or of another encoder.
        """
        files = [source] if source.is_file() else shown(source, "*.parquet")
        if not files:
            raise UserError(f"{source} is neither a Parquet file nor a folder of them; {REMEDY}")
        units: list[Unit] = []
        total = hashlib.sha256()
        for path in files:
            with reading_parquet(path, REMEDY), pq.ParquetFile(path) as file:
                _check(file.schema_arrow, path, like)
                units += _units(path, file.metadata)
                for piece in _sampled(path, file.metadata):
                    total.update(piece)
        if not units:
            raise UserError(f"{source} has no rows; {REMEDY}")
        return cls(units, total.hexdigest(), like.matrix.shape[1], like.matrix.dtype)

    def blocks(self, unit: Unit) -> Iterator[Block]:
        """The rows of a unit, at most `BLOCK` at a time, in the dtype of the gallery's features.

        Raises:
            UserError: if a feature has another dimension, or is zero or not finite.
        """
        for names, features in read_blocks(unit.path, "image_id", BLOCK, unit.groups):
            self._check(features, unit.path, names)
            with np.errstate(over="ignore"):
                features = features.astype(self.dtype, copy=False)
            yield Block(pa.array(names, pa.string()), features)

    def _check(self, features: Matrix, path: Path, names: list[str]) -> None:
        if features.shape[1] != self.width:
            raise UserError(
                f"{path}: the feature of {names[0]!r} has {features.shape[1]} values, those of the "
                f"gallery {self.width}; encode both with one encoder"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            largest = np.abs(features.astype(self.dtype, copy=False)).max(axis=1)
        if len(bad := np.flatnonzero(~(np.isfinite(largest) & (largest > 0)))):
            raise UserError(
                f"{path}: the features of {len(bad):,} images are zero or not finite, the first: "
                f"{names[bad[0]]!r}; encode or remove them"
            )


def without(block: Block, known: pa.Array) -> Block:
    """The images whose ids are not in `known`."""
    new = pc.invert(pc.is_in(block.ids, known))
    return Block(block.ids.filter(new), block.features[new.to_numpy(zero_copy_only=False)])


def _check(schema: pa.Schema, path: Path, like: Features) -> None:
    check_columns(schema, path, COLUMNS)
    key = (schema.metadata or {}).get(b"key", b"").decode()
    ours = like.metadata.get("key")
    # The key of precomputed features is that of the user's files.
    if key and key != ours and like.metadata.get("encoder") != SOURCE:
        raise UserError(
            f"{path} was made by another encoder (key {key}) than the gallery's features ({ours}); "
            "encode both with one encoder"
        )


def _units(path: Path, metadata: pq.FileMetaData) -> Iterator[Unit]:
    unit = Unit(path, (), 0)
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        unit = Unit(path, (*unit.groups, group), unit.rows + rows)
        if unit.rows >= BLOCK:
            yield unit
            unit = Unit(path, (), 0)
    if unit.rows:
        yield unit


def _sampled(path: Path, metadata: pq.FileMetaData) -> Iterator[bytes]:
    """The footer, and the first bytes of every column of every row group."""
    with path.open("rb") as file:
        footer = file.seek(-metadata.serialized_size - FOOTER_END, 2)
        yield file.read()
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            for column in map(group.column, range(group.num_columns)):
                first = column.dictionary_page_offset or column.data_page_offset
                file.seek(first)
                yield file.read(min(SAMPLED_BYTES, footer - first))
