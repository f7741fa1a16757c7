"""Convert a user's frames, arrays and files to queries, galleries and features."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rau import devices
from rau.errors import UserError
from rau.features.precomputed import as_matrix, as_names
from rau.features.table import SEPARATE, SHARED, Features
from rau.files import digest
from rau.retrieval.feature_set import FeatureSet
from rau.schemas import GALLERIES, QUERIES, GalleryRow, QueryRow, fault, reading_parquet

# One vector per name: a frame with the columns `image_id` or `text` and `feature`, or with only
# numbers and names as its index; a mapping; a pair of names and a matrix (N, d); a Parquet file.
Vectors: TypeAlias = (
    pd.DataFrame | Mapping[str, Sequence[float]] | tuple[Sequence[str], Any] | pa.Table | str | Path
)
# Rows as returned by `rau.datasets.read`, or a user's frame or records.
Rows = pd.DataFrame | Sequence[Mapping[str, Any]]
REMEDY = "see docs/python.md"


def feature_set(
    images: Vectors,
    texts: Vectors,
    *,
    shared_space: bool = False,
    device: str = "auto",
) -> FeatureSet:
    """Create a feature set from features of any encoder, in memory or in Parquet files.

    Args:
        images: a vector (d_image) for each image id. A frame with the columns `image_id` and
            `feature`, or with only numbers and ids as its index; a mapping; a pair of ids and a
            matrix (N, d_image); a Parquet file of either frame, as written by pandas.
        texts: a vector (d_text) for each text, in the same formats with the column `text`;
            `rau.needed_texts` lists the texts that a data set needs.
        shared_space: whether a text and the image that it describes lie close together, as with
            CLIP; then both need the same dimension.
        device: `auto`, `cpu`, `cuda` or `mps`.

    Raises:
        UserError: when a name is duplicated, or a vector is all zeros, not finite or of another
            dimension.

    >>> features = rau.feature_set(
    ...     images=(["a", "b"], [[1.0, 0.0], [0.6, 0.8]]), texts={"is red": [0.0, 1.0]}
    ... )
    >>> features.image_matrix.shape, features.text_matrix.shape
    (torch.Size([2, 2]), torch.Size([1, 2]))
    """
    found = _vectors(images, "image_id", "images"), _vectors(texts, "text", "texts")
    widths = [matrix.shape[1] for _, matrix in found]
    if shared_space and widths[0] != widths[1]:
        raise UserError(
            f"shared_space=True: images have dimension {widths[0]} and texts {widths[1]}; features "
            "of a shared space have the same dimension"
        )
    metadata = {
        "encoder": "own features",
        "weights": "own",
        "preprocess": "own",
        "key": digest(
            [[names, hashlib.sha256(matrix.data).hexdigest()] for names, matrix in found], 16
        ),
        "space": SHARED if shared_space else SEPARATE,
    }
    pair = (Features(names, matrix, metadata) for names, matrix in found)
    return FeatureSet.on(devices.choose(device, "device"), *pair)


def _vectors(given: Vectors, column: str, what: str) -> tuple[list[str], np.ndarray[Any, Any]]:
    """Names and their matrix (N, d): float16 if the input was, else float32."""
    match given:
        case str() | Path():
            with reading_parquet(Path(given), REMEDY):
                names, values = _columns(pq.read_table(given), column, str(given))
        case pa.Table():
            names, values = _columns(given, column, what)
        case pd.DataFrame():
            names, values = _frame(given, column, what)
        case tuple() if len(given) == 2:
            names, values = [str(name) for name in given[0]], given[1]
        case Mapping():
            names, values = [str(name) for name in given], list(given.values())
        case _:
            raise UserError(f"{what}: {type(given).__name__} is not a supported type; {REMEDY}")
    try:
        matrix = np.asarray(values)
        matrix = matrix.astype(np.float16 if matrix.dtype == np.float16 else np.float32)
    except (TypeError, ValueError, RuntimeError) as error:  # The last of torch.
        raise UserError(f"{what}: not a matrix of numbers ({error}); {REMEDY}") from error
    if matrix.ndim != 2 or len(matrix) != len(names) or not matrix.size:
        raise UserError(
            f"{what}: {len(names):,} names, but an array of shape {matrix.shape}; give one vector "
            "per name, all of the same dimension"
        )
    if len(set(names)) < len(names):
        raise UserError(f"{what}: duplicate names; keep one of each")
    bad = ~np.isfinite(matrix).all(1) | (matrix == 0).all(1)
    if bad.any():
        raise UserError(
            f"{what}: {bad.sum():,} vectors are all zeros or not finite, the first is that of "
            f"{names[int(bad.argmax())]!r}; encode them again"
        )
    return names, np.ascontiguousarray(matrix)


def _columns(table: pa.Table, column: str, place: str) -> tuple[list[str], Any]:
    """Read two columns of a table, with lists of any type; or a frame of only numbers."""
    if not {column, "feature"} & {*table.column_names} and table.schema.pandas_metadata:
        return _frame(table.to_pandas(), column, place)
    if absent := [name for name in (column, "feature") if name not in table.column_names]:
        raise UserError(f"{place} has no column {absent[0]}, but {', '.join(table.column_names)}")
    names, lists = (table[name].combine_chunks() for name in (column, "feature"))
    found = as_names(names, place, column)
    return found, as_matrix(lists, place, found)


def _frame(frame: pd.DataFrame, column: str, what: str) -> tuple[list[str], Any]:
    """Read a frame with these two columns, or with only numbers and names as its index."""
    if column in frame or "feature" in frame:
        named = frame if column in frame else frame.rename_axis(column).reset_index()
        if "feature" not in named:
            raise UserError(f"{what} has {column}, but no column feature; {REMEDY}")
        return [str(name) for name in named[column]], [np.asarray(one) for one in named.feature]
    return [str(name) for name in frame.index], frame.to_numpy()


def frame_of(rows: Any, what: str) -> pd.DataFrame:
    """Convert records to a frame.

    Raises:
        UserError: when they are something else.
    """
    try:
        return pd.DataFrame(rows)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{what}: {type(rows).__name__} is not a frame or a list of records; {REMEDY}"
        ) from error


def query_rows(queries: Rows, split: str, role: str) -> list[QueryRow]:
    """Convert queries to rows of schema `QUERIES`; missing columns get defaults.

    `reference_id`, `target_id` and `captions` (a list or one string) are required. If there is a
    column `split`, only the rows of `split` are used. The returned rows have the split `role`.

    Raises:
        UserError: when a column is missing or has another type, or no row is left.
    """
    frame = frame_of(queries, "queries")
    for name in ("reference_id", "target_id", "captions"):
        if name not in frame:
            raise UserError(f"queries have no column {name}, but {', '.join(map(str, frame))}")
    if "split" in frame:
        frame = frame[frame["split"] == split]
    if frame.empty:
        raise UserError(f"there are no queries of the split {split!r}")
    defaults: dict[str, Any] = dict.fromkeys(QUERIES.names) | {
        "query_id": [f"{split}-{number}" for number in range(len(frame))],
        "category": "all",
    }
    frame = frame.assign(
        captions=frame["captions"].map(lambda one: [one] if isinstance(one, str) else one),
        **{name: v for name, v in defaults.items() if name not in frame},
    ).assign(split=role)
    return _rows(frame, QUERIES, "queries")


def gallery_rows(
    galleries: Rows | Iterable[str], categories: Iterable[str], gallery: str
) -> list[GalleryRow]:
    """Convert galleries to rows of schema `GALLERIES`.

    Without a column `gallery`, rows belong to `gallery`. Without a column `category`, or if only
    image ids are given, they belong to every category.

    Raises:
        UserError: when a column is missing or has another type.
    """
    if not isinstance(galleries, pd.DataFrame):
        listed = [*galleries] if isinstance(galleries, Iterable) else galleries
        ids = isinstance(listed, list) and all(isinstance(one, str) for one in listed)
        galleries = frame_of({"image_id": listed} if ids else listed, "galleries")
    if "gallery" not in galleries:
        galleries = galleries.assign(gallery=gallery)
    if "category" not in galleries:
        every = pd.DataFrame({"category": list(categories)})
        galleries = galleries.merge(every, how="cross")
    return _rows(galleries, GALLERIES, "galleries")


def _rows(frame: pd.DataFrame, schema: pa.Schema, what: str) -> list[Any]:
    if absent := [name for name in schema.names if name not in frame]:
        raise UserError(f"{what} have no column {absent[0]}; {REMEDY}")
    try:
        table = pa.Table.from_pandas(frame[schema.names], schema, preserve_index=False)
    except pa.ArrowException as error:
        raise UserError(f"{what}: {str(error).splitlines()[0]}; {REMEDY}") from error
    if wrong := fault(table, schema):
        raise UserError(f"{what}: {wrong}; {REMEDY}")
    return list(table.to_pylist())
