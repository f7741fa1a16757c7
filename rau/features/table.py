"""Feature tables: a name and a vector per row; the schema's metadata name their encoder."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rau.errors import UserError
from rau.files import atomic_path
from rau.schemas import reading_parquet

GROUP_ROWS = 8192
# Read at a time, whatever the layout.
READ_BYTES = 2**18
# Feature values hardly repeat or compress; stored plain, they load at the speed of memory.
PLAIN = {
    "compression": "none",
    "use_dictionary": False,
    "write_statistics": False,
    "write_page_checksum": True,
}
# Required metadata of the tables of the pipeline.
METADATA = ("encoder", "weights", "preprocess", "key", "space")
SHARED, SEPARATE = "shared", "separate"
# The column of pairs of image and text.
PAIR = "pair"
Matrix = NDArray[Any]


def pair_name(image_id: str, text: str) -> str:
    """The name of a pair's row: both as JSON, so that no two pairs share one."""
    return json.dumps([image_id, text], ensure_ascii=False)


def _type_of(matrix: Matrix) -> pa.DataType:
    """Fixed-size lists of non-null values: nothing but the values is stored."""
    value = pa.field("element", pa.from_numpy_dtype(matrix.dtype), nullable=False)
    return pa.list_(value, matrix.shape[1])


def to_array(matrix: Matrix) -> pa.Array:
    """A fixed-size list array (N, d) of a matrix."""
    flat = pa.array(np.ascontiguousarray(matrix).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, type=_type_of(matrix))


def to_matrix(column: pa.Array | pa.ChunkedArray) -> Matrix:
    """The matrix (N, d) of a fixed-size list column; no copy where it is one chunk."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return np.asarray(array.flatten()).reshape(len(array), column.type.list_size)


def write_features(
    path: Path,
    column: str,
    names: Sequence[str],
    blocks: Iterable[Matrix],
    metadata: dict[str, str],
) -> None:
    """Write a feature table, whole or not at all.

    Args:
        column: `image_id` or `text`.
        blocks: the matrix (N, d), float16 or float32, in one or more pieces; each is a row group.
    """

    def named() -> Iterator[tuple[Sequence[str], Matrix]]:
        start = 0
        for block in blocks:
            yield names[start : start + len(block)], block
            start += len(block)

    write_blocks(path, column, named(), metadata)


def write_blocks(
    path: Path,
    column: str,
    blocks: Iterable[tuple[Sequence[str], Matrix]],
    metadata: dict[str, str],
) -> None:
    """Write a feature table as `write_features` does, of pieces with their names."""
    waiting = iter(blocks)
    first = next(waiting)
    schema = pa.schema(
        [pa.field(column, pa.string(), False), pa.field("feature", _type_of(first[1]), False)],
        metadata,
    )
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, **PLAIN) as writer:
        for names, matrix in chain([first], waiting):
            columns = [pa.array(names, pa.string()), to_array(matrix)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


@dataclass(frozen=True)
class Features:
    """A feature table in memory: names, matrix (N, d) and metadata."""

    names: list[str]
    matrix: Matrix
    metadata: dict[str, str]

    @property
    def shared_space(self) -> bool:
        """Whether image and text features may be compared as they are."""
        return self.metadata.get("space") == SHARED

    @cached_property
    def index(self) -> dict[str, int]:
        """Row number of each name."""
        return {name: row for row, name in enumerate(self.names)}

    def rows(self, names: Iterable[str], what: str) -> NDArray[np.int64]:
        """Row numbers of `names`.

        Raises:
            UserError: naming the first few that have no feature, and how many.
        """
        wanted = list(names)
        if absent := [name for name in dict.fromkeys(wanted) if name not in self.index]:
            raise UserError(
                f"{len(absent):,} {what} have no feature: {', '.join(map(repr, absent[:3]))}; "
                "run `python -m pipeline.features`; in Python, encode what `rau.needed_texts` lists"
            )
        return np.array([self.index[name] for name in wanted], dtype=np.int64)


def read_features(path: Path, column: str) -> Features:
    """Read a feature table of any layout, into one matrix and no second copy of it.

    Raises:
        UserError: when it is missing, truncated or of another form.
    """
    remedy = "run `python -m pipeline.features` again"
    # Without a map or a buffer of whole columns: only the matrix grows with the rows.
    with (
        reading_parquet(path, remedy),
        pq.ParquetFile(
            path, buffer_size=READ_BYTES, pre_buffer=False, page_checksum_verification=True
        ) as file,
    ):
        return _read(file, path, column, remedy)


def _read(file: pq.ParquetFile, path: Path, column: str, remedy: str) -> Features:
    schema = file.schema_arrow
    if schema.names != [column, "feature"] or schema.field(0).type != pa.string():
        types = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise UserError(f"{path} has {types}, not {column} (string) and feature; {remedy}")
    kind = schema.field("feature").type
    if not pa.types.is_fixed_size_list(kind) or kind.value_type not in (pa.float16(), pa.float32()):
        raise UserError(f"{path}: feature is {kind}, not fixed-size lists of float; {remedy}")
    dtype = np.dtype(kind.value_type.to_pandas_dtype())
    matrix = np.empty((file.metadata.num_rows, kind.list_size), dtype)
    names: list[str] = []
    nulls = 0
    rows = max(1, READ_BYTES // max(1, kind.list_size * dtype.itemsize))
    # More threads would be no faster here and keep buffers each.
    for batch in file.iter_batches(rows, use_threads=False):
        named, features = batch.columns
        named.validate(full=True)
        nulls += named.null_count + features.null_count
        if nulls:
            break
        matrix[len(names) : len(names) + len(batch)] = to_matrix(features)
        names += named.to_pylist()
    if nulls or len(set(names)) < len(names):
        raise UserError(f"{path} has {column} twice, or a row without one; {remedy}")
    metadata = {k.decode(): v.decode() for k, v in (schema.metadata or {}).items()}
    return Features(names, matrix, metadata)


def read_pair(images: Path, texts: Path) -> tuple[Features, Features]:
    """Read both tables and refuse two that different encoders made.

    Raises:
        UserError: also where `read_features` does.
    """
    pair = read_features(images, "image_id"), read_features(texts, "text")
    for path, features in zip((images, texts), pair, strict=True):
        if absent := [key for key in METADATA if key not in features.metadata]:
            raise UserError(
                f"{path} does not say its {absent[0]} in its metadata; run "
                "`python -m pipeline.features` again"
            )
    keys = [features.metadata["key"] for features in pair]
    if keys[0] != keys[1]:
        raise UserError(
            f"{images} and {texts} were made by different encoders ({keys[0]}, {keys[1]}); "
            "run `python -m pipeline.features` again"
        )
    spaces = [features.metadata["space"] for features in pair]
    widths = [features.matrix.shape[1] for features in pair]
    if spaces[0] != spaces[1] or (spaces[0] == SHARED and widths[0] != widths[1]):
        raise UserError(
            f"{images} ({spaces[0]} space, {widths[0]} wide) and {texts} ({spaces[1]}, {widths[1]} "
            "wide) do not belong together; run `python -m pipeline.features` again"
        )
    return pair


def read_pairs(path: Path, images: Features) -> Features:
    """Read the features of pairs, and refuse those of another encoder than the images'.

    Raises:
        UserError: also where `read_features` does.
    """
    pairs = read_features(path, PAIR)
    same = pairs.metadata.get("key") == images.metadata.get("key")
    if not same or pairs.matrix.shape[1] != images.matrix.shape[1]:
        raise UserError(
            f"{path} was made by another encoder than the images' features; run "
            "`python -m pipeline.features` again"
        )
    return pairs


def check_made_for(
    pair: tuple[Features, Features],
    metadata: dict[str, str],
    d_image: int,
    d_text: int,
    remedy: str,
) -> None:
    """Refuse features of another encoder than the one that a head was trained on.

    Args:
        metadata, d_image, d_text: of the features that it was trained on, and their widths.
        remedy: what the error ends with.

    Raises:
        UserError: when key or widths differ.
    """
    images, texts = pair
    widths = (images.matrix.shape[1], texts.matrix.shape[1])
    if images.metadata.get("key") != metadata.get("key") or widths != (d_image, d_text):
        raise UserError(
            f"the head was trained on features of {metadata.get('encoder')} ({d_image} and "
            f"{d_text} wide, key {metadata.get('key')}), these are of "
            f"{images.metadata.get('encoder')} ({widths[0]} and {widths[1]} wide, key "
            f"{images.metadata.get('key')}); {remedy}"
        )
