"""Interface of engines, which store vectors with ids and attributes and find the nearest."""

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
    """Search of vectors by cosine similarity; `exact` engines never miss one.

    `search` may be called by several threads at once, but not during `add` or `delete`, which may
    be called by one thread.
    """

    exact: bool

    def add(self, ids: pa.Array, attributes: pa.Table, vectors: Vectors) -> None:
        """Add unit vectors (N, d) with N new ids and N rows of attributes."""
        ...

    def delete(self, ids: Sequence[str]) -> None:
        """Delete rows."""
        ...

    def search(self, queries: Queries, k: int, where: Condition | None = None) -> list[Found]:
        """The k nearest of each unit query (Q, d), or fewer if fewer pass the filter.

        Exact engines return equal scores in the order in which the rows were added.
        """
        ...
