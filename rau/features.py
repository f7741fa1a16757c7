"""Feature tables: a name and a vector a row, with what made them in the schema's metadata."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rau.errors import UserError
from rau.files import atomic_path
from rau.schemas import read_parquet

GROUP_ROWS = 8192
# What made the features: the tables of the pipeline say it.
METADATA = ("encoder", "weights", "preprocess", "key", "space")
SHARED, SEPARATE = "shared", "separate"
Matrix = NDArray[Any]


def to_array(matrix: Matrix) -> pa.Array:
    """A fixed-size list array (N, d) of a matrix."""
    return pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(matrix).reshape(-1)), matrix.shape[1]
    )


def to_matrix(column: pa.ChunkedArray) -> Matrix:
    """The matrix (N, d) of a fixed-size list column; no copy where it is one chunk."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], type=column.type)
    return np.asarray(array.flatten()).reshape(len(array), column.type.list_size)


def write_features(
    path: Path, column: str, names: Sequence[str], matrix: Matrix, metadata: dict[str, str]
) -> None:
    """Write a feature table, whole or not at all, one row group at a time.

    Args:
        column: `image_id` or `text`.
        matrix: (N, d) float16 or float32, may be memory-mapped.
    """
    value = pa.from_numpy_dtype(matrix.dtype)
    schema = pa.schema(
        [(column, pa.string()), ("feature", pa.list_(value, matrix.shape[1]))], metadata
    )
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for start in range(0, len(names), GROUP_ROWS):
            stop = start + GROUP_ROWS
            columns = [pa.array(names[start:stop]), to_array(matrix[start:stop])]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


@dataclass(frozen=True)
class Features:
    """A feature table in memory: names, matrix (N, d), and what made it."""

    names: list[str]
    matrix: Matrix
    metadata: dict[str, str]

    @property
    def shared_space(self) -> bool:
        """Whether image and text features may be compared as they are."""
        return self.metadata.get("space") == SHARED

    def rows(self, names: Iterable[str], what: str) -> NDArray[np.int64]:
        """Row numbers of `names`.

        Raises:
            UserError: naming the first few that have no feature, and how many.
        """
        index = {name: row for row, name in enumerate(self.names)}
        wanted = list(names)
        absent = [name for name in dict.fromkeys(wanted) if name not in index]
        if absent:
            raise UserError(
                f"{len(absent):,} {what} have no feature: {', '.join(map(repr, absent[:3]))}; "
                "run `python -m pipeline.features`"
            )
        return np.array([index[name] for name in wanted], dtype=np.int64)


def read_features(path: Path, column: str) -> Features:
    """Read a feature table.

    Raises:
        UserError: when it is missing, cut short or of another form.
    """
    remedy = "run `python -m pipeline.features` again"
    table = read_parquet(path, remedy)
    if table.column_names != [column, "feature"]:
        raise UserError(f"{path} has columns {table.column_names}, not {column} and feature")
    kind = table.schema.field("feature").type
    if not pa.types.is_fixed_size_list(kind) or kind.value_type not in (pa.float16(), pa.float32()):
        raise UserError(f"{path}: feature is {kind}, not a fixed-size list of float16 or float32")
    metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    names = table[column].to_pylist()
    if len(set(names)) < len(names) or table[column].null_count or table["feature"].null_count:
        raise UserError(f"{path} has {column} twice, or a row without one; {remedy}")
    return Features(names, to_matrix(table["feature"]), metadata)


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
    return pair


def check_made_for(
    pair: tuple[Features, Features], metadata: dict[str, str], d_image: int, d_text: int
) -> None:
    """Refuse features of another encoder than the one that a head was trained on.

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
            f"{images.metadata.get('key')}); run `python -m pipeline.train` again"
        )
