"""Finished runs of studies, each stored under a digest of everything its metrics depend on.

Workers execute many at once, and each is stored as it finishes: a stopped study resumes.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Protocol, Self

import torch

from rau import devices
from rau.errors import UserError
from rau.params import Params
from rau.progress import tqdm
from rau.studies import runs

Kind = tuple[str, float]
Runner = Callable[[Params], runs.Result]
# A worker's own, made once by `_start` and not for every run.
_runner: list[Runner] = []


class Source(Protocol):
    """What runs read, as workers are given it."""

    @property
    def device(self) -> str:
        """As `train.device` names it."""
        ...

    def measuring(self, measures: tuple[str, ...]) -> Self:
        """The same, where these are measured on every head."""
        ...

    def digest(self) -> str:
        """Digest of all that is read."""
        ...

    def key(self, params: Params, data: str, device: str) -> str:
        """Name of a run: of its parameters, `digest()`, the type of the device and the code."""
        ...

    def kind(self, params: Params) -> Kind:
        """Runs of one kind have epochs that take equally long."""
        ...

    def epochs(self, params: Params) -> int:
        """Most epochs of a run."""
        ...

    def shortened(self, params: Params) -> Params:
        """The same run with one epoch."""
        ...

    def runner(self) -> Runner:
        """What executes runs on one thread."""
        ...


class RunStore:
    """Executes runs that are not stored yet, and returns the results of all.

    Args:
        folder: of finished runs, shared by all studies.
        source: what every run reads.
        jobs: number of runs at once; 0 is one per core on a CPU and one on a GPU.
        cores: number of cores that this process may use.
    """

    def __init__(self, folder: Path, source: Source, *, jobs: int, cores: int) -> None:
        self.folder, self.source = folder, source
        self._device, self._data = devices.choose(source.device).type, source.digest()
        self.jobs = jobs or (cores if self._device == "cpu" else 1)
        self._costs: dict[Kind, tuple[float, float]] = {}

    def measuring(self, measures: tuple[str, ...]) -> "RunStore":
        """The same store, where these are measured on every head; such runs are kept apart."""
        if not measures:
            return self
        source = self.source.measuring(measures)
        return RunStore(self.folder, source, jobs=self.jobs, cores=self.jobs)

    def key(self, params: Params) -> str:
        """Name of a run in the store."""
        return self.source.key(params, self._data, self._device)

    def path(self, params: Params) -> Path:
        """The file of a run."""
        return self.folder / f"{self.key(params)}.safetensors"

    def load(self, params: Params) -> runs.Result | None:
        """The result of a run, None where it is not stored."""
        path = self.path(params)
        return runs.load(path) if path.exists() else None

    def missing(self, wanted: Sequence[Params]) -> list[Params]:
        """The runs that are not stored, each once."""
        paths = {self.path(params): params for params in wanted}
        return [params for path, params in paths.items() if not path.exists()]

    def forecast(self, title: str, wanted: Sequence[Params]) -> None:
        """Print how many runs are not stored, and how long they will take."""
        forecast(title, [(self, wanted)])

    def seconds(self, wanted: Sequence[Params]) -> float:
        """Predicted duration of runs, from one epoch of each kind of run on this machine."""
        kinds = {self.source.kind(params): params for params in wanted}
        if unknown := kinds.keys() - self._costs.keys():
            with devices.threads(1):
                runner = self.source.runner()
                for kind in sorted(unknown):
                    self._costs[kind] = _cost(self.source.shortened(kinds[kind]), runner)
        costs = [(self._costs[self.source.kind(p)], self.source.epochs(p)) for p in wanted]
        return sum(epoch * epochs + rest for (epoch, rest), epochs in costs) / self.jobs

    def complete(self, title: str, wanted: Sequence[Params]) -> list[runs.Result]:
        """Results of all runs, in order; `title` is that of the progress bar.

        Raises:
            UserError: raised by a run, or when a worker was killed.
        """
        paths = [self.path(params) for params in wanted]
        count = len(set(paths))
        if todo := self.missing(wanted):
            self._execute(title, count, todo)
        else:
            print(f"{title}: all {count} runs are stored")
        return [runs.load(path) for path in paths]

    def _execute(self, title: str, count: int, todo: list[Params]) -> None:
        # Ordered by seed, so that a worker prepares few splits.
        todo = sorted(todo, key=lambda params: params.train.seed)
        bar = tqdm(total=count, initial=count - len(todo), desc=title, unit="run")
        with bar, _pool(self.source, min(self.jobs, len(todo))) as executor:
            started = [executor.submit(_run, self.path(params), params) for params in todo]
            for future in as_completed(started):
                try:
                    future.result()
                except BrokenProcessPool as error:
                    raise UserError(
                        f"{title}: a worker ended, most likely out of memory; finished runs "
                        "are stored, run it again with a smaller study.jobs"
                    ) from error
                bar.update()


def forecast(title: str, parts: Sequence[tuple[RunStore, Sequence[Params]]]) -> None:
    """Print how many runs are not stored, and how long they will take, in stores of one kind."""
    count = sum(len({store.path(params) for params in wanted}) for store, wanted in parts)
    todo = [(store, store.missing(wanted)) for store, wanted in parts]
    if left := sum(len(missing) for _, missing in todo):
        seconds = sum(store.seconds(missing) for store, missing in todo)
        print(
            f"{title}: {count} runs, {count - left} stored; at most {seconds / 60:.0f} minutes "
            f"for the rest, {parts[0][0].jobs} at once"
        )


def _cost(params: Params, runner: Runner) -> tuple[float, float]:
    """Seconds of a run's epoch, 0 where nothing is trained, and of everything else."""
    started = time.perf_counter()
    summary = runner(params).summary
    whole = time.perf_counter() - started
    epoch = float(summary.get("seconds") or 0.0) if summary.get("parameters") else 0.0
    return epoch, whole - epoch


@contextmanager
def _pool(source: Source, jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Workers that end with the block, immediately where it fails or is interrupted."""
    # Forked from a server that has imported this module, and no GPU's state with it.
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    executor = ProcessPoolExecutor(jobs, context, _start, (source,))
    try:
        yield executor
    except BaseException:
        for process in list((executor._processes or {}).values()):
            process.terminate()
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    executor.shutdown()


def _start(source: Source) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _runner.append(source.runner())


def _end_with_parent() -> None:
    """End this worker when its parent has ended, for whatever reason."""
    parent = parent_process()
    assert parent is not None  # A worker always has one.
    connection.wait([parent.sentinel])
    os._exit(1)


def _run(file: Path, params: Params) -> None:
    """Execute one run in a worker and store its result."""
    runs.save(file, _runner[0](params))
