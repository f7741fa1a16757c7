"""`python -m tests.kills --times 20`: machines and workers of a Ray cluster of this machine are
killed at random, while they encode pictures and while they execute a study; what comes out has to
be what comes out without.

A worker is one process; a machine is a node of the cluster with all of its processes.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench.ray_nodes import cluster
from rau.encoders import small_clip
from rau.encoders.clip import load
from rau.features import on_ray
from rau.features.cache import Cache
from rau.features.item import Item
from rau.features.table import read_features
from rau.files import digest_file
from rau.params import Params
from rau.studies.ray_workers import ray_workers
from rau.studies.run_store import RunStore
from tests.ray_nodes import at_work, kill_a_machine, kill_a_worker, wait_for_work
from tests.studies.synthetic import local, write_source
from tests.studies.test_ray_workers import content, wanted

PICTURES, BATCH, RUNS = 4000, 32, 8
# Does the work in a folder, here or on the cluster; returns what has to be the same.
Work = Callable[[Path, bool], list[bytes]]


def encoding(folder: Path) -> Work:
    """Pictures to a table of features."""
    encoder_folder = folder / "encoder"
    small_clip.train(encoder_folder, seed=0, steps=1, batch_size=8, pairs=8, workers=1)
    encoder = load(encoder_folder, torch.device("cpu"))
    rng = np.random.default_rng(0)
    items = []
    for number in range(PICTURES):
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(path)
        items.append(Item(path.stem, digest_file(path), path))
    model = on_ray.Model.of(encoder, encoder_folder, Params())

    def work(place: Path, away: bool) -> list[bytes]:
        with ExitStack() as stack:
            engine = on_ray.OnRay(encoder, model, 0, stack) if away else None
            cache = Cache(place / "parts", encoder, "float32", engine)
            cache.encode_images(place / "images.parquet", items, BATCH, 1)
        found = read_features(place / "images.parquet", "image_id")
        return [str([found.names, found.metadata]).encode(), np.asarray(found.matrix).tobytes()]

    return work


def study(folder: Path) -> Work:
    """Heads trained with several seeds."""
    source = write_source(folder)
    asked = wanted(RUNS, {"train.epochs": 60, "train.patience": 0})

    def work(place: Path, away: bool) -> list[bytes]:
        if not away:
            found = RunStore(place / "runs", source, local(2)).complete("here", asked)
        else:
            with ray_workers("cpu", 0, 1) as workers:
                found = RunStore(place / "runs", source, workers).complete("on Ray", asked)
        return [content(place, one) for one in found]

    return work


WORKS: dict[str, Callable[[Path], Work]] = {"encoding": encoding, "study": study}
Kill = Callable[[Any, Random], None]
KILLS: dict[str, Kill] = {"worker": kill_a_worker, "machine": kill_a_machine}


def survives(
    work: Work, expected: list[bytes], seconds: float, nodes: Any, kill: Kill, rng: Random
) -> bool:
    """Whether the work comes out as it should with one worker or one machine killed meanwhile.

    A moment that was too late is drawn again.

    Args:
        seconds: that the work takes here: the moment is drawn from them.
    """
    while True:
        with tempfile.TemporaryDirectory() as own, ThreadPoolExecutor(1) as pool:
            doing = pool.submit(work, Path(own), True)
            wait_for_work(nodes)
            time.sleep(moment := rng.uniform(0, seconds))
            if in_time := bool(at_work(nodes)):
                kill(nodes, rng)
            found = doing.result()
        if in_time:
            print(f"{kill.__name__} after {moment:.1f} s: {found == expected}", flush=True)
            return found == expected


def main() -> None:
    """Print how often the result was another; exit code 1 where it ever was."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills")
    parser.add_argument("--times", type=int, default=20, help="of each kind of work and of kill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", choices=WORKS, nargs="+", default=[*WORKS])
    parser.add_argument("--kill", choices=KILLS, nargs="+", default=[*KILLS])
    chosen = parser.parse_args()
    rng, wrong = Random(chosen.seed), 0
    for name in chosen.work:
        with tempfile.TemporaryDirectory() as kept, cluster(workers=2) as nodes:
            work = WORKS[name](Path(kept))
            started = time.monotonic()
            expected = work(Path(kept) / "here", False)
            seconds = time.monotonic() - started
            for kind in chosen.kill:
                well = [
                    survives(work, expected, seconds, nodes, KILLS[kind], rng)
                    for _ in range(chosen.times)
                ]
                wrong += well.count(False)
                print(f"{name}, a {kind} killed: same result {sum(well)} of {len(well)} times")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
