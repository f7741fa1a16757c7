"""Precomputed features from any encoder, instead of those of the stage `encoder`.

A folder contains images (image_id, feature) and texts (text, feature), each as `images.parquet`, as
a folder of that name or of the name `images`, or as several files `images-….parquet`, as written by
pandas and others: columns in any order, also with further ones, ids as strings or integers,
features as lists of numbers of one length. Images and texts may have different dimensions and
spaces; additional rows are ignored.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rau.digests import Lookup, Rows, digests
from rau.errors import UserError
from rau.features.table import GROUP_ROWS, READ_BYTES, SEPARATE, SHARED, Matrix, write_blocks
from rau.files import digest, digest_files, parquet_files
from rau.schemas import reading_parquet

# The name of their unknown encoder.
SOURCE = "features.source"
COLUMNS = {"images": "image_id", "texts": "text"}
REMEDY = "see docs/datasets.md, Features from any encoder"
ROWS = 1024
LISTS = (pa.ListType, pa.LargeListType, pa.FixedSizeListType)


def take(
    source: Path,
    needed: Mapping[str, pa.Array | pa.ChunkedArray],
    targets: Mapping[str, Path],
    shared_space: bool = False,
) -> None:
    """Copy the needed rows from the user's folder to the pipeline's tables.

    Rows pass through a temporary file next to the tables, 4 bytes per value; in memory are only
    28 bytes per needed row.

    Args:
        source: the user's folder.
        needed: distinct image ids under `images`, distinct strings under `texts`.
        targets: paths of the tables to write, by the same names.
        shared_space: whether a text and the image it describes lie close together, as with CLIP.

    Raises:
        UserError: if a file is missing or malformed, a needed row is missing, duplicate, all zeros
            or not finite, the dimensions of a shared space differ, or the disk is full.
    """
    paths = {kind: _files(source, kind) for kind in COLUMNS}
    space = SHARED if shared_space else SEPARATE
    metadata = {
        "encoder": SOURCE,
        "weights": source.name,
        "preprocess": "the user's own",
        "key": digest([digest_files([p for own in paths.values() for p in own]), space], 16),
        "space": space,
    }
    with ExitStack() as stack:
        found: dict[str, _Rows] = {}
        for kind, column in COLUMNS.items():
            # The table's own folder may not exist yet, and does not if a row is refused.
            folder = next(place for place in targets[kind].absolute().parents if place.is_dir())
            scratch = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            found[kind] = rows = _Rows(column, needed[kind], scratch)
            for path in paths[kind]:
                rows.read(path)
            rows.check(source / kind)
        widths = {kind: rows.width for kind, rows in found.items()}
        if shared_space and len(set(widths.values())) > 1:
            raise UserError(
                f"features.shared_space=true: images have dimension {widths['images']} and texts "
                f"{widths['texts']}; features of a shared space have the same dimension"
            )
        for kind, column in COLUMNS.items():
            write_blocks(targets[kind], column, found[kind].blocks(), metadata)


def _files(source: Path, kind: str) -> list[Path]:
    """The Parquet files of images or texts.

    Raises:
        UserError: when there is none.
    """
    if found := parquet_files(source, kind):
        return found
    raise UserError(f"features.source: {source / kind}.parquet is missing; {REMEDY}")


def check_columns(schema: pa.Schema, path: Path, columns: Sequence[str]) -> None:
    """Refuse a file that lacks one of the columns, or has two of its name.

    Raises:
        UserError: naming the column, and those of the file if it is not there.
    """
    if absent := [name for name in columns if name not in schema.names]:
        has = ", ".join(schema.names)
        raise UserError(f"{path} has no column {absent[0]}, but {has}; {REMEDY}")
    if twice := [name for name in columns if schema.names.count(name) > 1]:
        raise UserError(f"{path} has several columns {twice[0]}; rename all but one")


def read_blocks(
    path: Path, column: str, rows: int, groups: Sequence[int] | None = None
) -> Iterator[tuple[list[str], Matrix]]:
    """Names and features (N, d) of a file, at most `rows` at a time, whatever its layout.

    Args:
        column: the names' column.
        groups: the row groups to read; None for all.

    Raises:
        UserError: when the file is damaged, or a column is missing or of another type.
    """
    columns = [column, "feature"]
    # Without a map or a buffer of whole columns: memory does not grow with row groups.
    with (
        reading_parquet(path, REMEDY),
        pq.ParquetFile(
            path, buffer_size=READ_BYTES, pre_buffer=False, page_checksum_verification=True
        ) as file,
    ):
        check_columns(file.schema_arrow, path, columns)
        for batch in filter(len, file.iter_batches(rows, groups, columns, use_threads=False)):
            names = as_names(batch.column(column), path, column)
            yield names, as_matrix(batch.column("feature"), path, names)


class _Rows:
    """The needed rows of a table that may be in several files.

    Features are in a temporary file in the order of the needed names; `width` is their dimension.
    """

    def __init__(self, column: str, needed: pa.Array | pa.ChunkedArray, scratch: BinaryIO) -> None:
        self._column = column
        self._needed = needed
        self._scratch = scratch
        self._lookup = Lookup(np.concatenate([digests(()), *map(digests, self._names())]))
        self._found, self._twice, self._finite, self._zero = np.zeros((4, len(needed)), np.bool_)
        self._dtype: np.dtype[Any] = np.dtype(np.float16)
        self.width = 0

    def _names(self) -> Iterator[list[str]]:
        for start in range(0, len(self._needed), GROUP_ROWS):
            yield self._needed.slice(start, GROUP_ROWS).to_pylist()

    def read(self, path: Path) -> None:
        """Read the needed rows of a file.

        Raises:
            UserError: naming the column that is wrong, and how; or when the disk is full.
        """
        for names, features in read_blocks(path, self._column, ROWS):
            self.width = self.width or features.shape[1]
            if features.shape[1] != self.width:
                raise UserError(
                    f"{path}: the feature of {names[0]!r} has {features.shape[1]} values, others "
                    f"have {self.width}; {REMEDY}"
                )
            if features.dtype != np.float16:
                # Files may differ: the table has the precision of the finest.
                self._dtype = np.dtype(np.float32)
            rows = self._lookup.find(digests(names))
            wanted = rows >= 0
            if wanted.any():
                with np.errstate(over="ignore"):
                    self._put(rows[wanted], features[wanted].astype(np.float32))

    def _put(self, rows: Rows, features: Matrix) -> None:
        distinct, times = np.unique(rows, return_counts=True)
        self._twice[distinct] |= self._found[distinct] | (times > 1)
        self._found[distinct] = True
        self._finite[rows] = np.isfinite(features).all(axis=1)
        self._zero[rows] = (features == 0).all(axis=1)
        runs = np.flatnonzero(np.diff(rows) != 1) + 1
        try:
            for start, run in zip(rows[[0, *runs]], np.split(features, runs), strict=True):
                self._scratch.seek(int(start) * features.itemsize * self.width)
                self._scratch.write(run.data)
        except OSError as error:
            raise UserError(
                f"cannot write the features of {self._column}: {error.strerror}; free or change "
                "the disk"
            ) from error

    def blocks(self) -> Iterator[tuple[list[str], Matrix]]:
        """Names and features (N, width) of all needed rows, in their order."""
        self._scratch.seek(0)
        for names in self._names():
            content = self._scratch.read(len(names) * np.dtype(np.float32).itemsize * self.width)
            matrix = np.frombuffer(content, np.float32).reshape(-1, self.width)
            yield names, matrix.astype(self._dtype)

    def check(self, place: Path) -> None:
        """Check the needed rows.

        Raises:
            UserError: if some are missing, duplicate, all zeros or not finite; with their number.
        """
        left_out = ", or remove their images and set dataset.allow_missing=true"
        some = self._column == "image_id" and not self._zero.all()
        again = "encode them again" + left_out * some
        listed = f"`python -m pipeline.features --list FOLDER` writes every {self._column} needed"
        for bad, what, remedy in (
            (~self._found, "missing", listed),
            (self._twice, "there twice", "leave one of each"),
            (~self._finite, "not finite", again),
            (self._zero, "all zeros, as where an encoder failed", again),
        ):
            if count := np.count_nonzero(bad):
                first = np.flatnonzero(bad)[:3].tolist()
                named = ", ".join(repr(self._needed[row].as_py()) for row in first)
                raise UserError(
                    f"features.source: {count:,} of the {len(bad):,} needed features in {place} "
                    f"are {what}, the first: {named}; {remedy}"
                )


def as_names(column: pa.Array, path: Path | str, name: str) -> list[str]:
    """Names as strings.

    Raises:
        UserError: if one is null or of another type.
    """
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not (text or pa.types.is_integer(kind)):
        raise UserError(f"{path}: {name} is {kind}, not text or integers; {REMEDY}")
    if column.null_count:
        raise UserError(f"{path}: {name} is null in {column.null_count:,} rows; remove them")
    column.validate(full=True)  # Strings may not be valid UTF-8.
    return [str(one) for one in column.to_pylist()]


def as_matrix(column: pa.Array, path: Path | str, names: list[str]) -> Matrix:
    """Features (N, d) of lists of numbers.

    Raises:
        UserError: if they are not, or their lengths differ.
    """
    lists = column.storage if isinstance(column, pa.ExtensionArray) else column
    kind = lists.type
    value = kind.value_type if isinstance(kind, LISTS) else pa.null()
    if not (pa.types.is_floating(value) or pa.types.is_integer(value)):
        raise UserError(f"{path}: feature is {kind}, not lists of numbers; {REMEDY}")
    flat = lists.flatten()
    if lists.null_count or flat.null_count:
        raise UserError(f"{path}: feature is null, or holds a null; remove these rows")
    lengths = pc.list_value_length(lists).to_numpy()
    if odd := np.flatnonzero(lengths != lengths[:1]).tolist():
        raise UserError(
            f"{path}: the feature of {names[odd[0]]!r} has {lengths[odd[0]]} values, that of "
            f"{names[0]!r} {lengths[0]}; {REMEDY}"
        )
    return np.asarray(flat).reshape(len(lists), -1)
