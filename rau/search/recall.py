"""Recall of an approximate engine."""

import numpy as np

from rau.search.index import Index


def recall(index: Index, queries: int = 100, k: int = 10) -> float:
    """Share of the exact k nearest that the index's own engine finds, in [0, 1].

    Each query is the mean of two random images: close to the gallery, but not part of it.
    """
    rng = np.random.default_rng(0)
    vectors = np.concatenate(
        [segment.vectors[rng.integers(0, len(segment), 2 * queries)] for segment in index.segments]
    )
    drawn = rng.permutation(vectors)[: 2 * queries].astype(np.float32)
    means = drawn.reshape(queries, 2, -1).mean(1)
    asked = means / np.linalg.norm(means, axis=1, keepdims=True).clip(1e-12)
    truth, own = index.exact.search(asked, k), index.engine.search(asked, k)
    # Any of several equal scores counts; both are computed from float16.
    pairs = zip(truth, own, strict=True)
    found = [int((b.scores >= a.scores[-1] - 1e-4).sum()) / len(a.ids) for a, b in pairs]
    return float(np.mean(found))
