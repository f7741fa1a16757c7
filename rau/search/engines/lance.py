"""LanceDB (`pip install rau[lancedb]`): vectors on disk under an IVF index, filters in SQL.

For more vectors than memory holds. Its index is IVF_HNSW_SQ (IVF over HNSW graphs, scalar
quantised), and what it finds is compared again in full precision. Its own versions make a change
atomic: the index's manifest names one, and the next writer starts from that.
"""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa

from rau.errors import UserError
from rau.features.table import to_array
from rau.search.engines.engine import Found, Queries, Vectors
from rau.search.where import Condition

FOLDER = "lancedb"
# Candidates per result that are compared in full precision, and partitions that are searched.
REFINE, PROBES = 10, 20
_DELETED_AT_ONCE = 1000


class State(NamedTuple):
    """The table and the version that an index's manifest names."""

    table: str
    version: int


class Lance:
    """See `Engine`; `flush` after changes returns the state to be named."""

    exact = False

    def __init__(self, table: Any, name: str, columns: Sequence[str]) -> None:
        self._table, self._name = table, name
        # LanceDB does not accept every column name that a product table may have.
        self._columns = {column: f"a{number}" for number, column in enumerate(columns)}

    @classmethod
    def open(cls, folder: Path, columns: Sequence[str], state: State) -> Self:
        """Open a state, to read.

        Args:
            folder: of the index.
            columns: the attributes' names.

        Raises:
            UserError: when LanceDB is not installed, or the state is not there.
        """
        try:
            table = _connect(folder).open_table(state.table)
            table.checkout(state.version)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(
                f"{folder / FOLDER} is damaged ({error}); run `rau index --engine exact`, then "
                "again with `--engine lancedb`"
            ) from error
        return cls(table, state.table, columns)

    @classmethod
    def continued(cls, folder: Path, columns: Sequence[str], state: State) -> Self:
        """Open a state, to write on from there; errors as in `open`."""
        found = cls.open(folder, columns, state)
        found._table.restore()
        return found

    @classmethod
    def new(cls, folder: Path, schema: pa.Schema, dim: int) -> Self:
        """An empty one, to write.

        Raises:
            UserError: when LanceDB is not installed.
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
        columns = [ids, to_array(vectors), *(attributes[name] for name in self._columns)]
        self._table.add(pa.table(columns, ["id", "vector", *self._columns.values()]))

    def delete(self, ids: Sequence[str]) -> None:
        """See `Engine`."""
        for start in range(0, len(ids), _DELETED_AT_ONCE):
            quoted = (
                "'" + name.replace("'", "''") + "'" for name in ids[start:][:_DELETED_AT_ONCE]
            )
            self._table.delete(f"id IN ({', '.join(quoted)})")

    def flush(self) -> State:
        """Bring the index up to the changes."""
        from lancedb.index import HnswSq

        if self._table.count_rows() and not self._table.list_indices():
            self._table.create_index("vector", config=HnswSq(distance_type="cosine"))
        else:
            self._table.optimize()
        return State(self._name, self._table.version)

    def search(self, queries: Queries, k: int, where: Condition | None = None) -> list[Found]:
        """See `Engine`."""
        condition = None if where is None else where.sql(self._columns)
        return [self._one(query, k, condition) for query in queries]

    def _one(self, query: Any, k: int, condition: str | None) -> Found:
        asked = self._table.search(query).distance_type("cosine").nprobes(PROBES)
        asked = asked.refine_factor(REFINE).select(["id", "_distance"]).limit(k)
        if condition is not None:
            asked = asked.where(condition, prefilter=True)
        found = asked.to_arrow()
        scores = 1 - found["_distance"].to_numpy().astype(np.float32)
        order = np.argsort(-scores, kind="stable")
        ids = found["id"].to_pylist()
        return Found([ids[place] for place in order], scores[order])


def _connect(folder: Path) -> Any:
    # It would log how its next version differs.
    os.environ.setdefault("LANCE_LOG", "error")
    try:
        import lancedb
    except ImportError as error:
        raise UserError(
            "the engine lancedb is not installed: `pip install 'rau[lancedb]'`, or use exact"
        ) from error
    return lancedb.connect(folder / FOLDER)
