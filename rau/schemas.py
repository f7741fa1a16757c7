"""The tables that stages exchange: each row as a typed record, and the Arrow schema derived from
it, which is checked on write and on read."""

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    NotRequired,
    TypedDict,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rau.errors import UserError
from rau.files import atomic_path, patiently, read_bytes

if TYPE_CHECKING:
    import pandas as pd

MAX_CSV_BYTES = 1 << 26
# Batches of a row group of a table that is written as it comes.
GROUP_BATCHES = 8

Int32 = Annotated[int, pa.int32()]
Int64 = Annotated[int, pa.int64()]
Float32 = Annotated[float, pa.float32()]
Float64 = Annotated[float, pa.float64()]


class ManifestRow(TypedDict):
    """A row of `MANIFEST`: one image, what was found on disk, and why it cannot be used, if so."""

    image_id: str
    path: str | None
    bytes: Int64 | None
    sha256: str | None
    width: Int32 | None
    height: Int32 | None
    source: str | None
    status: str
    reason: str | None


class ImageRow(TypedDict):
    """A row of `IMAGES`."""

    image_id: str
    category: str
    path: str | None
    width: Int32 | None
    height: Int32 | None
    status: str


class QueryRow(TypedDict):
    """A row of `QUERIES`; `target_id` is None if it is hidden.

    `members` is CIRR's image set without the reference, `relevant` all correct answers, `concept`
    what CIRCO's reference and target have in common, `aspects` the kinds of change that its caption
    requests; each is None if the data set does not have it.
    """

    query_id: str
    split: str
    category: str
    reference_id: str
    target_id: str | None
    captions: list[str]
    members: list[str] | None
    relevant: list[str] | None
    concept: NotRequired[str | None]
    aspects: NotRequired[list[str] | None]


def ends(query: QueryRow) -> tuple[str, str]:
    """Reference and target of a query.

    Raises:
        ValueError: when the target is hidden.
    """
    if query["target_id"] is None:
        raise ValueError(f"the target of query {query['query_id']} is hidden")
    return query["reference_id"], query["target_id"]


class GalleryRow(TypedDict):
    """A row of `GALLERIES`: one image of one gallery."""

    gallery: str
    category: str
    image_id: str


class RelevanceRow(TypedDict):
    """A row of `RELEVANCE`: all correct answers of a query, with the names of its files."""

    category: str
    split: str
    query_index: Int32
    candidate: str
    target: str
    relevant: list[str]


class RankingRow(TypedDict):
    """A row of `RANKINGS`: how one method ranked one query under one protocol."""

    query_id: str
    method: str
    protocol: str
    category: str
    text: str
    reference_id: str
    target_id: str | None
    target_rank: Int64 | None
    subset_rank: Int64 | None
    average_precision: Float64 | None
    uncertainty: Float32 | None
    target_uncertainty: Float32 | None
    top: list[str]
    scores: list[Float32]


def _arrow_type(annotation: Any) -> pa.DataType:
    """The Arrow type of a string, an annotated number, a list of these, or an optional one."""
    if annotation is str:
        return pa.string()
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return arguments[1]
    inner = _arrow_type(arguments[0])
    return pa.list_(inner) if origin is list else inner


def _hints(row: type) -> dict[str, Any]:
    """The type of each column."""
    hints = get_type_hints(row, include_extras=True)
    return {n: get_args(k)[0] if get_origin(k) is NotRequired else k for n, k in hints.items()}


def _schema(row: type) -> pa.Schema:
    return pa.schema([(name, _arrow_type(kind)) for name, kind in _hints(row).items()])


def _required(row: type) -> list[str]:
    """The columns that have a value in every row."""
    return [name for name, kind in _hints(row).items() if type(None) not in get_args(kind)]


MANIFEST = _schema(ManifestRow)
IMAGES = _schema(ImageRow)
QUERIES = _schema(QueryRow)
GALLERIES = _schema(GalleryRow)
RELEVANCE = _schema(RelevanceRow)
RANKINGS = _schema(RankingRow)


@dataclass(frozen=True)
class _Rules:
    """Constraints on the values of a table.

    Attributes:
        row: the type of a row; columns without None in it have no nulls.
        key: columns whose combination is unique.
        values: permitted values by column.
        least, most: limits of the numbers of a column.
        filled: list columns that are never empty.
        present: columns that have a value if the status is `ok`.
    """

    row: type
    key: tuple[str, ...] = ()
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    least: Mapping[str, float] = field(default_factory=dict)
    most: Mapping[str, float] = field(default_factory=dict)
    filled: tuple[str, ...] = ()
    present: tuple[str, ...] = ()


_STATUS = {"status": ("ok", "missing", "corrupt")}
_RULES = {
    MANIFEST: _Rules(ManifestRow, ("image_id",), _STATUS, present=("path", "sha256")),
    IMAGES: _Rules(ImageRow, ("image_id",), _STATUS, present=("path",)),
    QUERIES: _Rules(QueryRow, ("split", "query_id"), filled=("captions",)),
    GALLERIES: _Rules(GalleryRow, ("gallery", "category", "image_id")),
    RELEVANCE: _Rules(RelevanceRow, ("category", "split", "query_index")),
    RANKINGS: _Rules(
        RankingRow,
        least={"target_rank": 1, "subset_rank": 1, "average_precision": 0},
        most={"average_precision": 1},
    ),
}


def fault(table: pa.Table, schema: pa.Schema) -> str | None:
    """What is wrong with the values of a table; None if they are valid.

    Args:
        table: some or all of the columns of `schema`, with its types.
    """
    rules, names = _RULES[schema], set(table.column_names)
    columns = {name: table[name] for name in names}
    for name, column in columns.items():
        if name in _required(rules.row) and column.null_count:
            return f"{name} is null in {column.null_count:,} rows"
        if pa.types.is_list(column.type) and pc.list_flatten(column).null_count:
            return f"{name} contains nulls"
        if pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py():
            return f"{name} is not a number in some rows"
    tests = [(n, pc.is_in(columns[n], pa.array(v))) for n, v in rules.values.items() if n in names]
    tests += [(n, pc.greater_equal(columns[n], v)) for n, v in rules.least.items() if n in names]
    tests += [(n, pc.less_equal(columns[n], v)) for n, v in rules.most.items() if n in names]
    tests += [
        (n, pc.greater(pc.list_value_length(columns[n]), 0)) for n in rules.filled if n in names
    ]
    for name, right in tests:
        if pc.any(pc.invert(right)).as_py():
            wrong = columns[name].filter(pc.invert(right))
            return f"{name} is {str(wrong[0].as_py())[:60]!r} in {len(wrong):,} rows"
    for name in [name for name in rules.present if name in names]:
        if pc.any(pc.and_(pc.equal(columns["status"], "ok"), pc.is_null(columns[name]))).as_py():
            return f"{name} is null where the status is ok"
    if rules.key and names.issuperset(rules.key):
        # Threads would take more than twice the memory.
        distinct = table.group_by([*rules.key], use_threads=False).aggregate([])
        if len(distinct) < len(table):
            return f"duplicate {' and '.join(rules.key)}"
    return None


def write_table(
    path: Path, table: pa.Table, schema: pa.Schema, metadata: Mapping[Any, Any] | None = None
) -> None:
    """Write `table` as Parquet under `schema` with `metadata`, completely or not at all.

    Raises:
        UserError: when the disk is full.
        pa.ArrowInvalid: when the table does not fit the schema (a programming error).
    """
    with atomic_path(path) as temporary:
        whole = table.select(schema.names).cast(schema).replace_schema_metadata(metadata)
        pq.write_table(whole, temporary, compression="zstd", write_page_checksum=True)


def write_batches(
    path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema, metadata: Mapping[Any, Any]
) -> None:
    """Write a table to a new file as `write_table` does, batches as they come."""
    whole, coming = schema.with_metadata(metadata), iter(batches)
    with pq.ParquetWriter(path, whole, compression="zstd", write_page_checksum=True) as writer:
        # Small row groups take more memory once read.
        while group := list(islice(coming, GROUP_BATCHES)):
            table = pa.Table.from_batches(group, schema)
            writer.write_table(table.replace_schema_metadata(metadata))


@contextmanager
def reading_parquet(path: Path, remedy: str) -> Iterator[None]:
    """Convert errors of reading a file in the block to one-line errors that end with the remedy.

    Raises:
        UserError: when it is missing or truncated.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; {remedy}") from error
    except (pa.ArrowException, OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"cannot read {path}: {os.strerror(error.errno)}; {remedy}") from error
        raise UserError(f"{path} is not a complete Parquet file; {remedy}") from error


def read_parquet(path: Path, remedy: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file of any schema; errors end with the remedy.

    Args:
        columns: the columns to read; None for all.

    Raises:
        UserError: when it is missing or truncated.
    """
    with reading_parquet(path, remedy):
        # Without it, folders named `a=b` would become columns.
        table = patiently(
            lambda: pq.read_table(
                path, columns=columns, partitioning=None, page_checksum_verification=True
            )
        )
        table.validate(full=True)
        return table


def read_table(
    path: Path, schema: pa.Schema, stage: str, columns: Sequence[str] | None = None
) -> pa.Table:
    """Read a Parquet table and check its columns.

    Args:
        path: the file.
        schema: the exact columns; additional ones are refused.
        stage: the stage that writes the file, named in the error.
        columns: the columns to read, in any order; None for all.

    Raises:
        UserError: when it is missing, truncated, of another schema, or contains invalid values.
    """
    remedy = f"run `python -m pipeline.{stage}` again"
    with reading_parquet(path, remedy):
        found = pq.read_schema(path)
    if found.remove_metadata() != schema:
        raise UserError(f"{path} has columns {found.names}, not {schema.names}; {remedy}")
    table = read_parquet(path, remedy, None if columns is None else [*columns])
    if wrong := fault(table, schema):
        raise UserError(f"{path}: {wrong}; {remedy}")
    return table


def read_csv(path: Path, columns: Sequence[str], remedy: str, dtype: Any = None) -> "pd.DataFrame":
    """Read a CSV table with at least these columns and one row; errors end with the remedy.

    Raises:
        UserError: when it is missing or not such a table.
    """
    import pandas as pd

    content = read_bytes(path, MAX_CSV_BYTES, remedy)
    try:
        table = pd.read_csv(io.BytesIO(content), dtype=dtype)
    except ValueError as error:
        raise UserError(
            f"{path} is not a table of the expected types ({error}); {remedy}"
        ) from error
    if absent := [name for name in columns if name not in table]:
        raise UserError(f"{path} has no column {absent[0]}; {remedy}")
    if table.empty:
        raise UserError(f"{path} has no rows; {remedy}")
    return table


def read_manifest(path: Path) -> list[ManifestRow]:
    """Rows of a manifest; errors as in `read_table`."""
    return cast(list[ManifestRow], read_table(path, MANIFEST, "download").to_pylist())


def read_images(path: Path) -> list[ImageRow]:
    """Rows of an images table; errors as in `read_table`."""
    return cast(list[ImageRow], read_table(path, IMAGES, "tables").to_pylist())


def read_queries(path: Path) -> list[QueryRow]:
    """Rows of a queries table; errors as in `read_table`."""
    return cast(list[QueryRow], read_table(path, QUERIES, "tables").to_pylist())


def read_galleries(path: Path) -> list[GalleryRow]:
    """Rows of a galleries table; errors as in `read_table`."""
    return cast(list[GalleryRow], read_table(path, GALLERIES, "tables").to_pylist())
