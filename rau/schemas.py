"""Arrow schemas of every table that one stage hands to another, checked on write and on read."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from rau.errors import UserError
from rau.files import atomic_path

STRINGS = pa.list_(pa.string())

MANIFEST = pa.schema(
    [
        ("image_id", pa.string()),
        ("path", pa.string()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("source", pa.string()),
        ("status", pa.string()),
    ]
)
IMAGES = pa.schema(
    [
        ("image_id", pa.string()),
        ("category", pa.string()),
        ("path", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("status", pa.string()),
    ]
)
QUERIES = pa.schema(
    [
        ("query_id", pa.string()),
        ("split", pa.string()),
        ("category", pa.string()),
        ("reference_id", pa.string()),
        ("target_id", pa.string()),
        ("captions", STRINGS),
        ("members", STRINGS),
        ("relevant", STRINGS),
    ]
)
GALLERIES = pa.schema(
    [("gallery", pa.string()), ("category", pa.string()), ("image_id", pa.string())]
)
RELEVANCE = pa.schema(
    [
        ("category", pa.string()),
        ("split", pa.string()),
        ("query_index", pa.int32()),
        ("candidate", pa.string()),
        ("target", pa.string()),
        ("relevant", STRINGS),
    ]
)
RANKINGS = pa.schema(
    [
        ("query_id", pa.string()),
        ("method", pa.string()),
        ("protocol", pa.string()),
        ("category", pa.string()),
        ("text", pa.string()),
        ("reference_id", pa.string()),
        ("target_id", pa.string()),
        ("target_rank", pa.int64()),
        ("subset_rank", pa.int64()),
        ("average_precision", pa.float64()),
        ("uncertainty", pa.float32()),
        ("target_uncertainty", pa.float32()),
        ("top", STRINGS),
        ("scores", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True)
class RankingsMetadata:
    """What the metadata of a rankings file say of its run; None where they do not.

    Attributes:
        method: name of the method that the run is about.
        dataset: name of the data set.
        copy: what kind of copy of it.
        encoder, coverage: in words.
        unusable: what became of queries without their images, as `evaluate.unusable`.
    """

    method: str | None = None
    dataset: str | None = None
    copy: str | None = None
    encoder: str | None = None
    coverage: str | None = None
    unusable: str | None = None

    @classmethod
    def of(cls, metadata: Mapping[bytes, bytes]) -> Self:
        """Read them.

        Raises:
            ValueError: when they are no text, or the data set is no JSON object.
        """
        own = ("method", "encoder", "coverage", "unusable")
        found = {k: metadata[k.encode()].decode() for k in own if k.encode() in metadata}
        data = json.loads(metadata.get(b"dataset", b"{}"))
        if not isinstance(data, dict):
            raise ValueError("dataset is no JSON object")
        found |= {k: str(data[w]) for k, w in (("dataset", "name"), ("copy", "copy")) if w in data}
        return cls(**found)


def write_table(
    path: Path, table: pa.Table, schema: pa.Schema, metadata: Mapping[Any, Any] | None = None
) -> None:
    """Write `table` as Parquet under `schema`, whole or not at all; `metadata` goes with it.

    Raises:
        UserError: when the disk is full.
        pa.ArrowInvalid: when the table does not fit the schema (a programming error).
    """
    with atomic_path(path) as temporary:
        whole = table.select(schema.names).cast(schema).replace_schema_metadata(metadata)
        pq.write_table(whole, temporary, compression="zstd")


@contextmanager
def reading_parquet(path: Path, remedy: str) -> Iterator[None]:
    """Say in one line, which ends with the remedy, what is wrong with a file read in the block.

    Raises:
        UserError: when it is missing or truncated.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; {remedy}") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is not a whole Parquet file; {remedy}") from error


def read_parquet(path: Path, remedy: str) -> pa.Table:
    """Read a Parquet file of any schema; errors end with the remedy.

    Raises:
        UserError: when it is missing or truncated.
    """
    with reading_parquet(path, remedy):
        return pq.read_table(path)


def read_table(path: Path, schema: pa.Schema, stage: str) -> pa.Table:
    """Read a Parquet table and check its columns.

    Args:
        path: the file.
        schema: the columns it must have; more are refused too.
        stage: the stage that makes the file, named in the error.

    Raises:
        UserError: when it is missing, truncated or of another schema.
    """
    remedy = f"run `python -m pipeline.{stage}` again"
    table = read_parquet(path, remedy)
    if table.schema.remove_metadata() != schema:
        raise UserError(f"{path} has columns {table.schema.names}, not {schema.names}; {remedy}")
    return table
