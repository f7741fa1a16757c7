"""Runs in processes of this machine."""

from collections.abc import Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context

import torch

from rau import devices
from rau.errors import UserError
from rau.params import Params
from rau.studies.runs import Result
from rau.studies.workers import Cost, Results, Runner, Source, costs
from rau.worker_pool import worker_pool

# A worker's own, made once by `_start` and not for every run.
_runner: list[Runner] = []


class LocalWorkers:
    """Processes that start with the first run and end with the last.

    Args:
        device: as `train.device` names it.
        jobs: number of runs at once; 0 is one per core on a CPU and one on a GPU.
        cores: number of cores that this process may use.

    Raises:
        UserError: when this machine does not have the device.
    """

    def __init__(self, device: str, *, jobs: int, cores: int) -> None:
        found = devices.choose(device)
        self.device = str(found)
        self.jobs = jobs or (cores if found.type == "cpu" else 1)

    def costs(self, source: Source, wanted: Sequence[Params]) -> list[Cost]:
        """Measured in this process: a worker would take longer to start than the runs."""
        with devices.threads(1):
            return costs(source.runner(), wanted)

    def results(self, source: Source, wanted: Sequence[Params]) -> Results:
        """Results as they are there.

        Raises:
            UserError: raised by a run, or when a worker was killed.
        """
        # Forked from a server that has imported this module, and no GPU's state with it.
        context = get_context("forkserver")
        context.set_forkserver_preload([__name__])
        count = min(self.jobs, len(wanted))
        with worker_pool(count, context, partial(_start, source)) as executor:
            started = {executor.submit(_run, params): n for n, params in enumerate(wanted)}
            for future in as_completed(started):
                try:
                    yield started.pop(future), future.result()
                except BrokenProcessPool as error:
                    raise UserError(
                        "a worker ended, most likely out of memory; finished runs are stored, "
                        "run it again with a smaller study.jobs"
                    ) from error


def _start(source: Source) -> None:
    torch.set_num_threads(1)
    _runner.append(source.runner())


def _run(params: Params) -> Result:
    return _runner[0](params)
