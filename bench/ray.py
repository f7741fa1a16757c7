"""Encoding and studies on a Ray cluster of this machine, compared to as many local threads or
processes.

Workers of both take seconds to start. A time is therefore that of much work minus that of little.
"""

import io
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, redirect_stderr
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from bench.data import random_features
from bench.features import image_items, random_encoder
from bench.harness import Bench, Result, seconds
from bench.random_index import names
from bench.ray_nodes import cluster
from rau.encoders import small_clip
from rau.features import on_ray
from rau.features.cache import Cache, Engine
from rau.features.table import write_features
from rau.models.config import canonical
from rau.params import Params
from rau.schemas import GALLERIES, QUERIES, GalleryRow, QueryRow, write_table
from rau.studies.local_workers import LocalWorkers
from rau.studies.ray_workers import ray_workers
from rau.studies.runs import Source
from rau.studies.workers import Workers

WORKERS = (1, 2)
LIMIT = 1.15
IMAGES, SIDE, BATCH = 16_384, 128, 128
RUNS, EPOCHS = 16, 60
# Of a study: images in pools, from each of which a query leads to the next; dimension of features.
POOLS, POOL, WIDTH = 24, 10, 16


@dataclass(frozen=True)
class Task:
    """The same work on Ray and here.

    Attributes:
        away, here: do an amount of it.
        little, much: the amounts whose times are subtracted.
    """

    away: Callable[[int], object]
    here: Callable[[int], object]
    little: int
    much: int


def cases(bench: Bench) -> Iterator[Result]:
    """Benchmark each kind of work with one and with two workers, and its speed-up."""
    for name, make in (("encoding", encoding), ("study", study)):
        times = []
        for count in WORKERS:
            with cluster(count), ExitStack() as stack:
                task = make(bench, count, stack)
                away, here = net_seconds(bench, task)
            label = f"ray/{name}/{count} worker{'s' if count > 1 else ''}"
            yield Result(label, away / here, "x", "local", LIMIT, away, here)
            times.append(away)
        one, two = times
        yield Result(f"ray/{name}/speed-up", one / two, "x", "1 worker", None, two, one)


def net_seconds(bench: Bench, task: Task) -> tuple[float, float]:
    """Median times on Ray and here, in turns, without starts; a first turn is not counted."""

    def net(work: Callable[[int], object]) -> float:
        little, much = (seconds(partial(work, amount)) for amount in (task.little, task.much))
        return much - little

    turns = [(net(task.away), net(task.here)) for _ in range(bench.repeats + 1)][1:]
    away, here = map(statistics.median, zip(*turns, strict=True))
    return away, here


def encoding(bench: Bench, count: int, stack: ExitStack) -> Task:
    """Images, from files to parts."""
    encoder = random_encoder(bench, small_clip.NAME)
    little = on_ray.FEW["images"]
    items = image_items(bench.scratch, SIDE, SIDE, little + bench.size(IMAGES))
    model = on_ray.Model.of(encoder, bench.scratch / small_clip.NAME, Params())
    engine = on_ray.OnRay(encoder, model, 1, stack)

    def fill(engine: Engine | None, batch: int, threads: int, amount: int) -> None:
        with tempfile.TemporaryDirectory(dir=bench.scratch) as name, redirect_stderr(io.StringIO()):
            Cache(Path(name), encoder, "float16", engine).fill(
                "images", items[:amount], batch, threads
            )

    return Task(
        away=lambda amount: fill(engine, BATCH, 1, amount),
        here=lambda amount: fill(None, BATCH * count, count, amount),
        little=little,
        much=len(items),
    )


def study(bench: Bench, count: int, stack: ExitStack) -> Task:
    """Runs of a study, on tables of a few rows."""
    source = study_source(bench.scratch)
    runs = [study_run(seed) for seed in range(count + bench.size(RUNS))]
    away = stack.enter_context(ray_workers("cpu", 0, 1))

    def execute(workers: Workers, amount: int) -> None:
        for _ in workers.results(source, runs[:amount]):
            pass

    return Task(
        away=lambda amount: execute(away, amount),
        here=lambda amount: execute(LocalWorkers("cpu", jobs=count, cores=1), amount),
        little=count,
        much=len(runs),
    )


def study_run(seed: int) -> Params:
    """The parameters of a run on `study_source`."""
    train = {"epochs": EPOCHS, "patience": 0, "batch_size": 32, "holdout": 0.2, "seed": seed}
    return canonical(
        Params.model_validate(
            {
                "dataset": {"name": "fashioniq"},
                "head": {"dim": WIDTH, "hidden": 2 * WIDTH},
                "train": train | {"device": "cpu"},
                "evaluate": {"bootstrap": 0},
            }
        )
    )


def study_source(folder: Path) -> Source:
    """Tables of a few queries, every sixth pool of them for val, and random features."""
    ids = names(POOLS * POOL)
    queries: list[QueryRow] = [
        {
            "query_id": image,
            "split": "train" if row // POOL % 6 else "val",
            "category": "dress" if row // POOL % 2 else "shirt",
            "reference_id": image,
            "target_id": ids[row - row % POOL + (row + 1) % POOL],
            "captions": [f"text {row % POOL}"],
            "members": None,
            "relevant": None,
        }
        for row, image in enumerate(ids)
    ]
    galleries: list[GalleryRow] = [
        {"gallery": name, "category": query["category"], "image_id": query["query_id"]}
        for name in ("original", "val-union")
        for query in queries
        if query["split"] == "val"
    ]
    kinds = {"images": ("image_id", ids), "texts": ("text", [f"text {n}" for n in range(POOL)])}
    about = {"key": "k", "space": "shared", "encoder": "e", "weights": "w", "preprocess": "p"}
    for kind, (column, own) in kinds.items():
        matrix = random_features(len(own), WIDTH).numpy()
        write_features(folder / f"{kind}.parquet", column, own, [matrix], about)
    for name, rows, schema in (
        ("queries", queries, QUERIES),
        ("galleries", galleries, GALLERIES),
    ):
        table = pa.Table.from_pylist(list(rows), schema=schema)
        write_table(folder / f"{name}.parquet", table, schema)
    images, texts = (folder / f"{kind}.parquet" for kind in kinds)
    return Source(images, texts, folder / "queries.parquet", folder / "galleries.parquet", "cpu")
