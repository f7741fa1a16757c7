"""Many runs at once, each stored as it finishes: a stopped study resumes."""

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from pathlib import Path

import torch
from tqdm import tqdm

from rau.devices import threads
from rau.errors import UserError
from rau.params import Params
from rau.studies import runs

# A worker's study data, read once by `_start` and not for every run.
_data: list[runs.StudyData] = []


def path(store: Path, key: str) -> Path:
    """The file of a run."""
    return store / f"{key}.safetensors"


def missing(wanted: Mapping[str, Params], store: Path) -> dict[str, Params]:
    """The runs that are not in the store."""
    return {key: params for key, params in wanted.items() if not path(store, key).exists()}


def _end_with_parent() -> None:
    """End this worker when its parent has ended, for whatever reason."""
    parent = parent_process()
    assert parent is not None  # A worker always has one.
    connection.wait([parent.sentinel])
    os._exit(1)


def _start(source: runs.Source) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _data.append(source.read())


def _run(file: Path, params: Params, with_val: bool) -> None:
    """Execute one run in a worker and store its result."""
    runs.save(file, runs.execute(params, _data[0], with_val))


def predict(source: runs.Source, wanted: Sequence[Params], jobs: int, with_val: bool) -> float:
    """Predicted seconds of the runs, from one epoch of each kind of head on this machine."""
    if not wanted:
        return 0.0
    costs: dict[tuple[str, int], tuple[float, float]] = {}
    with threads(1):
        data = source.read()
        data.prepared(wanted[0])
        for params in wanted:
            kind = (params.head.name, params.ua.n)
            if kind not in costs:
                costs[kind] = _cost(params, data, with_val)
    seconds = 0.0
    for params in wanted:
        epoch, rest = costs[params.head.name, params.ua.n]
        seconds += epoch * params.train.epochs + rest
    return seconds / jobs


def _cost(params: Params, data: runs.StudyData, with_val: bool) -> tuple[float, float]:
    """Seconds of an epoch of a head, 0 where it has no parameters, and of everything else."""
    seed = {"epochs": 1, "seed": min(data.seeds, default=params.train.seed)}
    short = params.model_copy(update={"train": params.train.model_copy(update=seed)})
    started = time.perf_counter()
    summary = runs.execute(short, data, with_val).summary
    whole = time.perf_counter() - started
    epoch = float(summary.get("seconds") or 0.0) if summary.get("parameters") else 0.0
    return epoch, whole - epoch


@contextmanager
def _pool(source: runs.Source, jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Workers that end with the block, immediately where it fails or is interrupted."""
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
    """Execute all runs that are not in the store; each is stored as it finishes.

    Args:
        wanted: parameters by key.
        store: folder of finished runs.
        source: what every worker reads.
        jobs: number of workers.
        with_val: whether val is ranked too.
        title: of the progress bar.

    Raises:
        UserError: raised by a run, or when a worker was killed.
    """
    todo = missing(wanted, store)
    if not todo:
        print(f"{title}: all {len(wanted)} runs are stored")
        return
    store.mkdir(parents=True, exist_ok=True)
    # Ordered by seed, so that a worker prepares few splits.
    queue = sorted(todo.items(), key=lambda item: item[1].train.seed)
    bar = tqdm(total=len(wanted), initial=len(wanted) - len(todo), desc=title, unit="run")
    with bar, _pool(source, min(jobs, len(todo))) as executor:
        started = [executor.submit(_run, path(store, key), one, with_val) for key, one in queue]
        for future in as_completed(started):
            try:
                future.result()
            except BrokenProcessPool as error:
                raise UserError(
                    f"{title}: a worker ended, most likely out of memory; finished runs "
                    "are stored, run it again with a smaller study.jobs"
                ) from error
            bar.update()
