"""Exact search by comparing every vector with every query, for up to about a million vectors.

Nothing has to be built. Vectors remain float16 and memory-mapped. If they fit into `MEMORY`, the
first search makes a float32 copy, because the conversion takes longer than the matrix product.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rau.search.engines.engine import Found, Queries, Vectors
from rau.search.where import Condition, passing

# Maximum bytes of float32 copies, and rows per comparison.
MEMORY = 4 * 2**30
CHUNK = 65_536
Floats = NDArray[np.float32]


@dataclass
class _Block:
    """Rows that were added together; `alive` marks those not deleted."""

    ids: pa.Array
    attributes: pa.Table
    vectors: Vectors
    alive: NDArray[np.bool_]
    copied: Floats | None = None

    def chunk(self, start: int) -> Floats:
        """Up to `CHUNK` rows as float32."""
        rows = slice(start, start + CHUNK)
        if self.copied is not None:
            return self.copied[rows]
        return self.vectors[rows].astype(np.float32)


class Exact:
    """See `Engine`."""

    exact = True

    def __init__(self, memory: int = MEMORY) -> None:
        self._blocks: list[_Block] = []
        self._memory = memory
        self._copying = threading.Lock()

    def add(self, ids: pa.Array, attributes: pa.Table, vectors: Vectors) -> None:
        """See `Engine`."""
        self._blocks.append(_Block(ids, attributes, vectors, np.full(len(ids), True)))

    def delete(self, ids: Sequence[str]) -> None:
        """See `Engine`."""
        gone = pa.array(ids, pa.string())
        for block in self._blocks:
            block.alive &= ~pc.is_in(block.ids, gone).to_numpy(zero_copy_only=False)

    def search(self, queries: Queries, k: int, where: Condition | None = None) -> list[Found]:
        """See `Engine`."""
        self._copy()
        best = [_Best(k) for _ in queries]
        for number, block in enumerate(self._blocks):
            kept = block.alive if where is None else block.alive & passing(where, block.attributes)
            for start in range(0, len(kept), CHUNK):
                own = kept[start : start + CHUNK]
                if not own.any():
                    continue
                scores = queries @ block.chunk(start).T
                if not own.all():
                    scores[:, ~own] = -np.inf
                for one, row in zip(best, scores, strict=True):
                    one.take(number, start, row)
        return [self._named(one) for one in best]

    def _copy(self) -> None:
        """Make float32 copies of the blocks that fit, once."""
        with self._copying:
            left = self._memory - sum(b.copied.nbytes for b in self._blocks if b.copied is not None)
            for block in self._blocks:
                if block.copied is None and 2 * block.vectors.nbytes <= left:
                    block.copied = block.vectors.astype(np.float32)
                    left -= block.copied.nbytes

    def _named(self, best: "_Best") -> Found:
        ids = [
            self._blocks[block].ids[row].as_py()
            for block, row in zip(best.blocks.tolist(), best.rows.tolist(), strict=True)
        ]
        return Found(ids, best.scores)


class _Best:
    """The best k rows of all chunks so far, best first; equal scores in the order of the rows."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.scores = np.empty(0, np.float32)
        self.blocks = np.empty(0, np.int64)
        self.rows = np.empty(0, np.int64)

    def take(self, block: int, start: int, scores: Floats) -> None:
        """Update with a chunk's scores (C,), which are -inf for excluded rows."""
        # Few rows of a later chunk beat the last of k: comparing is cheaper than sorting.
        level = self.scores[-1] if len(self.scores) == self.k else -np.inf
        better = np.flatnonzero(scores > level)
        rows = better[_top(scores[better], self.k)]
        scores = np.concatenate([self.scores, scores[rows]])
        blocks = np.concatenate([self.blocks, np.full(len(rows), block)])
        # Earlier chunks come first, and a chunk's rows ascend: a stable sort preserves both.
        order = np.argsort(-scores, kind="stable")[: self.k]
        self.rows = np.concatenate([self.rows, rows + start])[order]
        self.scores, self.blocks = scores[order], blocks[order]


def _top(scores: Floats, k: int) -> NDArray[np.int64]:
    """Rows of the k highest scores, in ascending order; ties at the k-th go to the first rows."""
    if len(scores) <= k:
        return np.arange(len(scores))
    level = np.partition(scores, len(scores) - k)[len(scores) - k]
    above = np.flatnonzero(scores > level)
    equal = np.flatnonzero(scores == level)[: k - len(above)]
    return np.sort(np.concatenate([above, equal]))
