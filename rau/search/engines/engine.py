"""What an engine is: vectors under ids with attributes, of which it finds the nearest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rau.search.where import Condition

Vectors = NDArray[np.float16]
Queries = NDArray[np.float32]


@dataclass(frozen=True)
class Found:
    """The nearest rows of one query: their ids and cosines, best first."""

    ids: list[str]
    scores: NDArray[np.float32]


class Engine(Protocol):
    """Finds vectors by cosine; `exact` says whether it never misses one.

    `search` may be called by several threads at once, `add` and `delete` by one and not meanwhile.
    """

    exact: bool

    def add(self, ids: pa.Array, attributes: pa.Table, vectors: Vectors) -> None:
        """Take unit vectors (N, d) under N ids that it does not have, with N rows of attributes."""
        ...

    def delete(self, ids: Sequence[str]) -> None:
        """Forget rows."""
        ...

    def search(self, queries: Queries, k: int, where: Condition | None = None) -> list[Found]:
        """The k nearest, fewer where fewer pass the filter, of unit queries (Q, d).

        Of equal scores the row that was added first comes first, where the engine is exact.
        """
        ...
