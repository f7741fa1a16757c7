"""LanceDB (`pip install rau[lancedb]`): vectors on disk with an IVF index, filters in SQL.

For vectors that do not fit into memory. Up to `GRAPHS` vectors the index uses graphs (IVF_HNSW_SQ),
which have the highest recall; above, it uses codes (IVF_PQ), with a twelfth of the time and a
sixteenth of the size (docs/scale.md). Candidates of both are compared again in full precision.
LanceDB's versions make changes atomic: the index's manifest names one, from which the next writer
continues. Old versions are therefore only removed after a newer one is named.
"""

import math
import os
import secrets
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa

from rau.errors import UserError
from rau.features.table import to_array
from rau.search.engines.engine import Found, Queries, Vectors
from rau.search.where import Condition, sql_literal

FOLDER = "lancedb"
# Maximum number of vectors for building graphs; an existing index keeps its kind as it grows.
GRAPHS = 2_000_000
# Values of a vector per byte of its code; reduced to a divisor of the dimension.
VALUES_PER_BYTE = 8
ITERATIONS = 10
_DELETED_AT_ONCE = 1000
# How long old versions are kept for their readers; and an age that no version reaches.
KEPT, EVER = timedelta(days=7), timedelta(days=365_000)


class State(NamedTuple):
    """The table and the version that an index's manifest names."""

    table: str
    version: int


class Reading(NamedTuple):
    """Search settings: the number of partitions that are searched, and of candidates per result
    that are compared in full precision."""

    probes: int
    refine: int


CODES = "IvfPq"
READING = {"IvfHnswSq": Reading(20, 10), CODES: Reading(50, 50)}


class Lance:
    """See `Engine`; after changes, name the state that `flush` returns, then call `tidy`."""

    exact = False

    def __init__(self, table: Any, name: str, columns: Sequence[str]) -> None:
        self._table, self._name = table, name
        # LanceDB does not accept every column name that a product table may have.
        self._columns = {column: f"a{number}" for number, column in enumerate(columns)}
        self.reading: Reading | None = None

    @classmethod
    def open(cls, folder: Path, columns: Sequence[str], state: State) -> Self:
        """Open a state for reading.

        Args:
            folder: the index's folder.
            columns: names of the attributes.

        Raises:
            UserError: if LanceDB is not installed, or the state does not exist.
        """
        try:
            table = _connect(folder).open_table(state.table)
            table.checkout(state.version)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(
                f"{folder / FOLDER} is damaged ({error}); run `rau index --engine exact`, then "
                "again with `--engine lancedb`"
            ) from error
        found = cls(table, state.table, columns)
        found._read_kind()
        return found

    @classmethod
    def continued(cls, folder: Path, columns: Sequence[str], state: State) -> Self:
        """Open a state for writing; errors as in `open`."""
        found = cls.open(folder, columns, state)
        found._table.restore()
        return found

    @classmethod
    def new(cls, folder: Path, schema: pa.Schema, dim: int) -> Self:
        """Create an empty table for writing.

        Raises:
            UserError: if LanceDB is not installed.
        """
        name = secrets.token_hex(8)
        found = cls(None, name, schema.names)
        vector = to_array(np.empty((0, dim), np.float16)).type
        own = [(found._columns[field.name], field.type) for field in schema]
        fields = pa.schema([("id", pa.string()), ("vector", vector), *own])
        found._table = _connect(folder).create_table(name, schema=fields)
        return found

    def add(self, ids: pa.Array, attributes: pa.Table, vectors: Vectors) -> None:
        """See `Engine`."""
        columns = [
            ids.cast(pa.string()),
            to_array(vectors),
            *(attributes[name] for name in self._columns),
        ]
        self._table.add(pa.table(columns, ["id", "vector", *self._columns.values()]))

    def delete(self, ids: Sequence[str]) -> None:
        """See `Engine`."""
        for start in range(0, len(ids), _DELETED_AT_ONCE):
            some = ids[start : start + _DELETED_AT_ONCE]
            self._table.delete(f"id IN ({', '.join(map(sql_literal, some))})")

    def flush(self) -> State:
        """Update the index with the changes."""
        rows = self._table.count_rows()
        if rows and not self._table.list_indices():
            self._table.create_index("vector", config=self._config(rows))
        else:
            self._table.optimize(cleanup_older_than=EVER)
        self._read_kind()
        return State(self._name, self._table.version)

    def tidy(self) -> None:
        """Remove old versions."""
        self._table.optimize(cleanup_older_than=KEPT)

    def _config(self, rows: int) -> Any:
        from lancedb.index import HnswSq

        if rows <= GRAPHS:
            return HnswSq(distance_type="cosine")
        return codes(rows, self._table.schema.field("vector").type.list_size)

    def _read_kind(self) -> None:
        """Set `reading` by the kind of the index; without an index every row is compared."""
        for one in self._table.list_indices():
            self.reading = READING[one.index_type]

    def search(self, queries: Queries, k: int, where: Condition | None = None) -> list[Found]:
        """See `Engine`."""
        condition = None if where is None else where.sql(self._columns)
        return [self._one(query, k, condition) for query in queries]

    def _one(self, query: Any, k: int, condition: str | None) -> Found:
        asked = self._table.search(query).distance_type("cosine")
        if self.reading is not None:
            # If a filter leaves fewer than k results in these, more partitions are searched.
            asked = asked.minimum_nprobes(self.reading.probes).maximum_nprobes(0)
            asked = asked.refine_factor(self.reading.refine)
        asked = asked.select(["id", "_distance"]).limit(k)
        if condition is not None:
            asked = asked.where(condition, prefilter=True)
        try:
            found = asked.to_arrow()
        except ValueError as error:
            if condition is None:
                raise
            raise UserError(
                "the filter is too long or too deeply nested for the engine lancedb; simplify it"
            ) from error
        scores = 1 - found["_distance"].to_numpy().astype(np.float32)
        order = np.argsort(-scores, kind="stable")
        ids = found["id"].to_pylist()
        return Found([ids[place] for place in order], scores[order])


def codes(rows: int, width: int) -> Any:
    """LanceDB's configuration of codes for `rows` vectors of dimension `width`."""
    from lancedb.index import IvfPq

    return IvfPq(
        distance_type="cosine",
        num_partitions=max(1, round(rows**0.5 / 3)),
        num_sub_vectors=width // math.gcd(width, VALUES_PER_BYTE),
        max_iterations=ITERATIONS,
    )


def _connect(folder: Path) -> Any:
    # Otherwise it logs how its next version will differ.
    os.environ.setdefault("LANCE_LOG", "error")
    try:
        import lancedb
    except ImportError as error:
        raise UserError(
            "the engine lancedb is not installed: `pip install 'rau[lancedb]'`, or use exact"
        ) from error
    return lancedb.connect(folder / FOLDER)
