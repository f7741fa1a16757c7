"""Segments of an index: some of its images, in files that are written once and never changed.

A segment is a folder with four files: `items.parquet` (id, path and digest of each image, its
attributes and the position of its thumbnail), `vectors.f16` (the head's unit vectors, consecutive
little-endian float16), `features.f16` (the encoder's raw features in the same format: any image can
be a reference, and another head does not need the images) and `thumbnails.bin` (consecutive JPEG
files). All but the first are memory-mapped.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rau.errors import UserError
from rau.schemas import reading_parquet
from rau.search.engines.engine import Vectors

ITEMS, VECTORS, FEATURES = "items.parquet", "vectors.f16", "features.f16"
THUMBNAILS = "thumbnails.bin"
REMEDY = "remove the index's folder and run `rau index` again"
# Columns in addition to the attributes: an image's id and its file as it was read. Rows can only be
# taken from a `pa.string` column up to 2 GiB, the size of the digests of 33 million images.
IMAGES = pa.schema(
    [
        ("id", pa.large_string()),
        ("path", pa.large_string()),
        ("sha256", pa.large_string()),
        ("bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
    ]
)
_PLACE = pa.schema([("start", pa.int64()), ("length", pa.int64())])
# Prefix of the names of attributes, which are arbitrary.
_PREFIX = "attribute."
_ROWS = 8192


class Block(NamedTuple):
    """N images: rows of `IMAGES`, attributes, vectors (N, d), features (N, d_image), JPEGs."""

    images: pa.Table
    attributes: pa.Table
    vectors: Vectors
    features: Vectors
    thumbnails: Sequence[bytes]


def write_segment(folder: Path, blocks: Iterable[Block]) -> int:
    """Write a segment's files to a new folder; returns the number of images.

    There is at least one block, and all have the same attributes and dimensions.
    """
    folder.mkdir(parents=True)
    rows = start = 0
    writer: pq.ParquetWriter | None = None
    try:
        with (
            (folder / VECTORS).open("wb") as vectors,
            (folder / FEATURES).open("wb") as features,
            (folder / THUMBNAILS).open("wb") as thumbnails,
        ):
            for block in blocks:
                lengths = np.array([len(one) for one in block.thumbnails], np.int64)
                starts = start + np.cumsum(lengths) - lengths
                table = _joined(block, starts, lengths)
                if writer is None:
                    writer = pq.ParquetWriter(
                        folder / ITEMS, table.schema, compression="zstd", write_page_checksum=True
                    )
                writer.write_table(table)
                vectors.write(np.ascontiguousarray(block.vectors, "<f2").data)
                features.write(np.ascontiguousarray(block.features, "<f2").data)
                thumbnails.writelines(block.thumbnails)
                start += int(lengths.sum())
                rows += len(table)
    finally:
        if writer is not None:
            writer.close()
    return rows


def _joined(block: Block, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> pa.Table:
    own = block.attributes.rename_columns([_PREFIX + n for n in block.attributes.column_names])
    columns = [*block.images.columns, pa.array(starts), pa.array(lengths), *own.columns]
    return pa.table(columns, [*IMAGES.names, *_PLACE.names, *own.column_names])


class Segment:
    """A segment; vectors (N, d), features (N, d_image) and thumbnails are memory-mapped."""

    def __init__(self, folder: Path, rows: int, dim: int, d_image: int) -> None:
        """Open a folder written by `write_segment`.

        Raises:
            UserError: if a file is missing or has another size or format.
        """
        self.folder = folder
        with reading_parquet(folder / ITEMS, REMEDY):
            # Mapped, so that it can be read after a writer has removed the segment.
            self._items = pq.ParquetFile(
                folder / ITEMS, memory_map=True, page_checksum_verification=True
            )
        names, found = [*IMAGES.names, *_PLACE.names], self._items.schema_arrow.names
        if found[: len(names)] != names or self._items.metadata.num_rows != rows:
            raise UserError(f"{folder / ITEMS} has unexpected rows or columns; {REMEDY}")
        own = [n for n in found if n.startswith(_PREFIX)]
        attributes = self._read(own).combine_chunks()
        self.attributes = attributes.rename_columns([n.removeprefix(_PREFIX) for n in own])
        self.ids: pa.LargeStringArray = self._image_column("id")
        self.paths: pa.LargeStringArray = self._image_column("path")
        self._starts, self._lengths = (self._read([n])[n].to_numpy() for n in _PLACE.names)
        self.vectors = _matrix(folder / VECTORS, rows, dim)
        self.features = _matrix(folder / FEATURES, rows, d_image)
        ends = self._starts + self._lengths
        if int(self._starts.min()) < 0 or int(self._lengths.min()) < 1:
            raise UserError(f"{folder / ITEMS} is damaged; {REMEDY}")
        self._thumbnails = _mapped(folder / THUMBNAILS, "u1", int(ends.max()))

    def __len__(self) -> int:
        return len(self.vectors)

    @cached_property
    def images(self) -> pa.Table:
        """The rows of `IMAGES`, which only updates need: much of an index's memory."""
        own = {"id": self.ids, "path": self.paths}
        columns = [own[n] if n in own else self._image_column(n) for n in IMAGES.names]
        return pa.table(columns, IMAGES)

    def _image_column(self, name: str) -> pa.Array:
        # Earlier versions wrote strings of up to 2 GiB.
        return self._read([name])[name].cast(IMAGES.field(name).type).combine_chunks()

    def _read(self, columns: Sequence[str]) -> pa.Table:
        with reading_parquet(self.folder / ITEMS, REMEDY):
            table = self._items.read([*columns])
            table.validate(full=True)
            return table

    def thumbnail(self, row: int) -> bytes:
        """An image's thumbnail, a JPEG file."""
        start = int(self._starts[row])
        return self._thumbnails[start : start + int(self._lengths[row])].tobytes()

    def blocks(self, rows: NDArray[np.int64]) -> Iterator[Block]:
        """Iterate over some rows, to write them to another segment."""
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            yield Block(
                taken(self.images, some),
                taken(self.attributes, some),
                self.vectors[some],
                self.features[some],
                [self.thumbnail(row) for row in some],
            )


def taken(table: pa.Table, rows: Any) -> pa.Table:
    """Some rows of a table, which can be without columns."""
    return table.take(pa.array(rows, pa.int64())) if table.column_names else table


def _matrix(path: Path, rows: int, width: int) -> Vectors:
    return _mapped(path, "<f2", 2 * rows * width).reshape(rows, width)


def _mapped(path: Path, dtype: str, size: int) -> NDArray[Any]:
    """Memory-map a file of `size` bytes."""
    try:
        found = path.stat().st_size
        if found != size:
            raise UserError(f"{path} has {found:,} bytes, not {size:,}; {REMEDY}")
        return np.memmap(path, dtype, "r")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {REMEDY}") from error
