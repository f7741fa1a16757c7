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

from bench.features import image_items, random_encoder
from bench.harness import Bench, Result, seconds
from rau.encoders import small_clip
from rau.features import on_ray
from rau.features.cache import Cache, Engine
from rau.params import Params
from rau.studies.local_workers import LocalWorkers
from rau.studies.ray_workers import ray_workers
from rau.studies.workers import Workers
from tests.ray_nodes import cluster
from tests.studies.synthetic import write_source
from tests.studies.test_ray_workers import wanted

WORKERS = (1, 2)
LIMIT = 1.15
IMAGES, SIDE, BATCH = 16_384, 128, 128
RUNS, EPOCHS = 16, 60


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
    source = write_source(bench.scratch)
    runs = wanted(count + bench.size(RUNS), {"train.epochs": EPOCHS, "train.patience": 0})
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
