"""Execution of runs in processes of this machine."""

from collections.abc import Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context

import torch

from rau import cpu, devices
from rau.errors import UserError
from rau.params import Params
from rau.studies.runs import Result
from rau.studies.workers import Cost, Results, Runner, Source, costs
from rau.worker_pool import worker_pool

# The runner of a worker process, created once by `_start`.
_runner: list[Runner] = []


class LocalWorkers:
    """Worker processes that start with the first run and end with the last.

    Args:
        device: value of `train.device`.
        jobs: number of parallel runs; 0 means as many as the cores allow on a CPU, one on a GPU.
        cores: number of cores and threads of a run.

    Raises:
        UserError: if this machine does not have the device.
    """

    def __init__(self, device: str, *, jobs: int, cores: int) -> None:
        found = devices.choose(device)
        self.device = str(found)
        self.jobs = jobs or (max(1, cpu.cores() // cores) if found.type == "cpu" else 1)
        self._cores = cores

    def costs(self, source: Source, wanted: Sequence[Params]) -> list[Cost]:
        """Measure in this process: starting a worker would take longer than the runs."""
        with devices.threads(self._cores):
            return costs(source.runner(), wanted)

    def results(self, source: Source, wanted: Sequence[Params]) -> Results:
        """Yield results as runs finish.

        Raises:
            UserError: raised by a run, or if a worker was killed.
        """
        # Workers are forked from a server that has imported this module but has no GPU state.
        context = get_context("forkserver")
        context.set_forkserver_preload([__name__])
        count = min(self.jobs, len(wanted))
        with worker_pool(count, context, partial(_start, source, self._cores)) as executor:
            started = {executor.submit(_run, params): n for n, params in enumerate(wanted)}
            for future in as_completed(started):
                try:
                    yield started.pop(future), future.result()
                except BrokenProcessPool as error:
                    raise UserError(
                        "a worker ended, most likely out of memory; finished runs are stored, "
                        "run it again with a smaller study.jobs"
                    ) from error


def _start(source: Source, cores: int) -> None:
    torch.set_num_threads(cores)
    _runner.append(source.runner())


def _run(params: Params) -> Result:
    return _runner[0](params)
