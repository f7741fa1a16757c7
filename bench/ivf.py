"""LanceDB's index of codes, as the engine `lancedb` builds it for many vectors, at any size."""

import statistics
from collections.abc import Iterator
from importlib.util import find_spec
from time import process_time
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.data import low_features
from bench.harness import Bench, bytes_in, processor_seconds
from bench.random_index import BLOCK, names
from rau.features.table import to_array
from rau.search.engines import lance

QUERIES, K = 100, 10
Vectors = NDArray[np.float32]


def figures(bench: Bench, count: int, width: int) -> dict[str, float]:
    """Time and disk space of an index, disk space of vectors, recall at 10 and time of a query.

    The index has √N / 3 partitions; each query is the mean of two vectors. Empty without LanceDB.
    """
    if find_spec("lancedb") is None:
        return {}
    import lancedb

    folder = bench.scratch / str(count) / "ivf"
    asked = _unit(next(_blocks(count, width))[: 2 * QUERIES].reshape(-1, 2, width).mean(1))
    truth = np.full((len(asked), K), -np.inf, np.float32)
    kind = to_array(np.empty((0, width), np.float16)).type
    schema = pa.schema([("id", pa.string()), ("vector", kind)])

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal truth
        start = 0
        for vectors in _blocks(count, width):
            stored = vectors.astype(np.float16)
            scores = asked @ _unit(stored.astype(np.float32)).T
            truth = -np.sort(-np.concatenate([truth, scores], axis=1), axis=1)[:, :K]
            columns = [pa.array(names(len(stored), start)), to_array(stored)]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
            start += len(stored)

    reader = pa.RecordBatchReader.from_batches(schema, batches())
    table: Any = lancedb.connect(folder).create_table("vectors", reader)
    plain = bytes_in(folder)
    config = lance.codes(count, width)
    built = processor_seconds(lambda: table.create_index("vector", config=config))
    found, times, reading = [], [], lance.READING[lance.CODES]
    for query in asked:
        started = process_time()
        search = table.search(query).distance_type("cosine")
        search = search.nprobes(reading.probes).refine_factor(reading.refine)
        distances = search.select(["id", "_distance"]).limit(K).to_arrow()["_distance"].to_numpy()
        times.append(process_time() - started)
        found.append(1 - distances)
    # Ties count as found; both scores are those of the float16 vectors.
    hits = [(own >= best[-1] - 1e-4).sum() / K for own, best in zip(found, truth, strict=True)]
    return {
        "time": built,
        "disk": bytes_in(folder) - plain,
        "vectors": plain,
        "recall at 10": float(np.mean(hits)),
        "query": statistics.median(times),
    }


def _blocks(count: int, width: int) -> Iterator[Vectors]:
    """Yield unit vectors in blocks."""
    for start in range(0, count, BLOCK):
        yield _unit(low_features(min(BLOCK, count - start), width, start).numpy())


def _unit(vectors: Vectors) -> Vectors:
    norms: Vectors = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / norms
