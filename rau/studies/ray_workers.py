"""Execution of runs in workers of a Ray cluster."""

import copy
import math
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property
from types import ModuleType
from typing import Any, Generic, TypeVar

import torch

from rau.actors import check_room, divide, machines, places
from rau.cluster import connected
from rau.errors import UserError
from rau.params import Params
from rau.studies.runs import Result
from rau.studies.workers import Cost, Results, Runner, Source, costs

Job = TypeVar("Job")
PARAMETER = "study.engine"
REMEDY = (
    "finished runs are stored; where memory is short, start machines with fewer cores (ray start "
    "--num-cpus) or lower study.jobs, and run it again"
)


@contextmanager
def ray_workers(device: str, jobs: int, cores: int) -> Iterator["RayWorkers"]:
    """Yield the workers of a cluster, connecting to it on first use.

    Arguments and errors are those of `RayWorkers`.

    Raises:
        UserError: also if there is no cluster; see `connected`.
    """
    with ExitStack() as stack:
        yield RayWorkers(lambda: stack.enter_context(connected(PARAMETER)), device, jobs, cores)


class RayWorkers:
    """Workers on the cores and GPUs of a cluster.

    A worker keeps its inputs in memory and returns only results. This process stores them, so that
    a worker that is killed cannot leave a partial result.

    Args:
        connect: returns Ray, connected; called once, for the first run or to resolve `auto`.
        device: `cpu`, `cuda`, or `auto` for GPUs if the cluster has any.
        jobs: number of parallel runs; 0 means as many as the cores allow, or one per GPU. If there
            are more runs than GPUs, they share the GPUs.
        cores: number of cores and threads of a run, with a GPU as well.
    """

    def __init__(
        self, connect: Callable[[], ModuleType], device: str, jobs: int, cores: int
    ) -> None:
        self._connect, self._given, self._asked, self._cores = connect, device, jobs, cores

    @cached_property
    def _ray(self) -> ModuleType:
        return self._connect()

    @cached_property
    def device(self) -> str:
        """Device type of runs; Ray chooses the individual device.

        Raises:
            UserError: if Ray does not support this type.
        """
        if self._given == "auto":
            return "cuda" if any(gpus for _, gpus in machines(self._ray)) else "cpu"
        found = torch.device(self._given).type
        if found not in ("cpu", "cuda"):
            raise UserError(
                f"{PARAMETER}=ray: Ray has no train.device={self._given}; use auto, cpu or cuda"
            )
        return found

    @cached_property
    def jobs(self) -> int:
        """Number of parallel runs.

        Raises:
            UserError: if no machine of the cluster has the cores and the device of a run.
        """
        gpu = self.device != "cpu"
        room = check_room(self._ray, self._cores, gpu, PARAMETER, "study.cores")
        return self._asked or room

    @cached_property
    def per_gpu(self) -> int:
        """Number of runs that share a GPU; 0 on a CPU. Errors as for `jobs`."""
        jobs = self.jobs
        if self.device == "cpu":
            return 0
        gpus = sum(gpus for cores, gpus in machines(self._ray) if cores >= self._cores)
        return math.ceil(jobs / gpus)

    def costs(self, source: Source, wanted: Sequence[Params]) -> list[Cost]:
        """Measure in a worker, because this machine may not have its device."""
        ((_, found),) = self._each(costs, source, [wanted])
        return list(found)

    def results(self, source: Source, wanted: Sequence[Params]) -> Results:
        """Yield results as runs finish.

        Raises:
            UserError: raised by a run, or if workers fail repeatedly.
        """
        with closing(self._each(_result, source, list(enumerate(wanted)))) as found:
            for (place, _), result in found:
                # A copy is writable, and releases the cluster's memory.
                yield place, copy.deepcopy(result)

    def _each(
        self, work: Callable[[Runner, Job], Any], source: Source, jobs: Sequence[Job]
    ) -> Generator[tuple[Job, Any]]:
        """Yield each job with the result of `work` as jobs finish."""
        share = 1 / self.per_gpu if self.per_gpu else 0
        options = {"num_cpus": self._cores, "num_gpus": share, "max_restarts": 0}
        actor = self._ray.remote(**options)(_Worker)

        def size() -> int:
            """Number of workers; machines that join later are used as well."""
            room = places(self._ray, self._cores, self.per_gpu)
            return min(room, self._asked or room, len(jobs))

        return divide(
            self._ray, lambda: actor.remote(work, source, self._cores), size, jobs, REMEDY
        )


class _Worker(Generic[Job]):
    """Actor: a process of the cluster that executes runs sequentially, on a thread per core."""

    def __init__(self, work: Callable[[Runner, Job], Any], source: Source, cores: int) -> None:
        self._work, self._source, self._cores = work, source, cores

    @cached_property
    def _runner(self) -> Runner:
        return self._source.runner()

    def start(self) -> None:
        """Read the source.

        Raises:
            UserError: also if this machine cannot access the project's files.
        """
        torch.set_num_threads(self._cores)
        with _named():
            _ = self._runner

    def work(self, job: Job) -> Any:
        """Execute a job; errors of its runs are passed on."""
        with _named():
            return self._work(self._runner, job)


@contextmanager
def _named() -> Iterator[None]:
    """Add the name of the machine to errors."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{error} (on {socket.gethostname()})") from error


def _result(runner: Runner, job: tuple[int, Params]) -> Result:
    return runner(job[1])
