"""Many runs at once, each kept as it finishes: what was stopped goes on where it was."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import torch
from tqdm import tqdm

from rau.params import Params
from rau.studies import runs

# One process's world, made once by `_start`: the price of a pool, paid here only.
_worlds: list[runs.World] = []


def missing(wanted: Mapping[str, Params], store: Path) -> dict[str, Params]:
    """Those of the runs that the store does not hold."""
    return {key: params for key, params in wanted.items() if not path(store, key).exists()}


def path(store: Path, key: str) -> Path:
    """Where a run is kept."""
    return store / f"{key}.safetensors"


def _start(source: runs.Source) -> None:
    torch.set_num_threads(1)
    _worlds.append(source.read())


def _run(store: Path, key: str, params: Params, with_val: bool) -> float:
    """One run in a worker; returns its seconds."""
    started = time.perf_counter()
    runs.save(path(store, key), runs.execute(params, _worlds[0], with_val))
    return time.perf_counter() - started


def predict(source: runs.Source, wanted: Sequence[Params], jobs: int) -> float:
    """Seconds that the runs will take, from one epoch of one of them on this machine."""
    if not wanted:
        return 0.0
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        world = source.read()
        # The head with the most to compute stands for all.
        probe = next((params for params in wanted if params.head.name == "rau"), wanted[-1])
        world.prepared(probe)
        short = probe.model_copy(update={"train": probe.train.model_copy(update={"epochs": 1})})
        started = time.perf_counter()
        runs.execute(short, world, with_val=False)
        epoch = time.perf_counter() - started
    finally:
        torch.set_num_threads(threads)
    return epoch * sum(params.train.epochs for params in wanted) / jobs


@contextmanager
def _pool(source: runs.Source, jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Workers that end with the block, at once where it fails or is interrupted."""
    executor = ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_start, initargs=(source,)
    )
    try:
        yield executor
    except BaseException:
        for process in list((executor._processes or {}).values()):
            process.terminate()
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    executor.shutdown()


def complete(
    wanted: Mapping[str, Params],
    store: Path,
    source: runs.Source,
    jobs: int,
    with_val: bool,
    title: str,
) -> None:
    """Do all runs that the store does not hold.

    Args:
        wanted: parameters by key.
        store: folder of finished runs.
        source: what every worker reads.
        jobs: workers.
        with_val: rank val too.
        title: of the progress bar.

    Raises:
        UserError: what a run raised.
    """
    todo = missing(wanted, store)
    # Runs of one seed together: a worker prepares each seed's split once.
    queue = sorted(todo.items(), key=lambda item: item[1].train.seed)
    if not queue:
        print(f"{title}: all {len(wanted)} runs are there")
        return
    store.mkdir(parents=True, exist_ok=True)
    bar = tqdm(total=len(wanted), initial=len(wanted) - len(todo), desc=title, unit="run")
    with bar, _pool(source, min(jobs, len(queue))) as executor:
        waiting: set[Future[float]] = {
            executor.submit(_run, store, key, params, with_val) for key, params in queue
        }
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
                bar.update()


def jobs_for(asked: int, device: torch.device) -> int:
    """Workers: as asked, else one a core on a CPU and one on a GPU."""
    if asked:
        return asked
    return len(os.sched_getaffinity(0)) if device.type == "cpu" else 1
