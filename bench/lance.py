"""LanceDB's index of many random vectors against the exact engine: time, disk, recall, latency."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bench.data import random_features
from bench.features import image_items
from bench.harness import Bench, Result, bytes_in, seconds
from bench.random_index import random_index, random_model
from bench.search import ENCODER, OFTEN
from rau.search.index import LANCE, Index, commit, writing
from rau.search.recall import recall

SIZES = (1_000_000, 10_000_000)


def cases(bench: Bench, encoder: str = ENCODER, sizes: Sequence[int] = SIZES) -> Iterator[Result]:
    """Benchmark each size: time to build the table, disk space, recall, and latency of a search."""
    if find_spec("lancedb") is None:
        print("lance: left out, lancedb is not installed")
        return
    model = random_model(bench, encoder)
    file = Path(image_items(bench.scratch / "photo", 400, 600, 1)[0].content)
    often = replace(bench, repeats=OFTEN * bench.repeats)
    for count in map(bench.size, sizes):
        folder = bench.scratch / str(count)
        plain = random_index(folder, model, count, file)
        size = f"{count}x{model.dim}"
        yield Result(f"lance/build/{size}", seconds(partial(to_lancedb, plain)), "s")
        yield Result(f"lance/disk/{size}", bytes_in(folder / LANCE), "bytes")
        index = Index.open(folder)
        yield Result(f"lance/recall at 10/{size}", recall(index), "")
        query = random_features(1, model.dim).numpy()
        query /= np.linalg.norm(query)
        yield often.ratio(
            f"lance/search/{size}",
            partial(index.engine.search, query, 10),
            partial(index.exact.search, query, 10),
            "exact engine",
        )


def to_lancedb(plain: Index) -> None:
    """Change the engine of an index to LanceDB."""
    manifest = plain.manifest.model_copy(update={"engine": "lancedb"})
    with writing(plain.folder):
        commit(plain.folder, plain, lambda: manifest, (), (), 0)
