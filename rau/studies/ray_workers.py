"""Runs as tasks of a Ray cluster."""

import copy
import math
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from types import ModuleType
from typing import TypeVar

import torch

from rau import cluster
from rau.errors import UserError
from rau.params import Params
from rau.studies.runs import Result
from rau.studies.workers import Cost, Results, Runner, Source, costs

Asked = TypeVar("Asked")
T = TypeVar("T")
PARAMETER = "study.engine"
# Workers that one run may end before it is not tried again. Nodes that die are not counted: that
# is no run's fault, and there are only so many.
LIVES = 5


@contextmanager
def connected(device: str, jobs: int) -> Iterator["RayWorkers"]:
    """Yield the cluster's workers; arguments as of `RayWorkers`.

    Raises:
        UserError: as `rau.cluster.connected` and `RayWorkers`.
    """
    with cluster.connected(PARAMETER) as ray:
        yield RayWorkers(ray, device, jobs)


class RayWorkers:
    """The cores of a cluster, or its GPUs.

    A worker process keeps what it has read, and only results come back: the driver stores them.

    Args:
        ray: connected.
        device: `cpu`, `cuda`, or `auto` for GPUs where the cluster has any.
        jobs: number of runs at once; 0 is one per core, or one per GPU. More of them than the
            cluster has GPUs share these.

    Raises:
        UserError: when the cluster has no such device.
    """

    def __init__(self, ray: ModuleType, device: str, jobs: int) -> None:
        have = ray.cluster_resources()
        self.device = _type(device, "GPU" in have)
        kind = "CPU" if self.device == "cpu" else "GPU"
        slots = int(have.get(kind, 0))
        if not slots:
            raise UserError(f"{PARAMETER}=ray: no node of the cluster has a {kind}; add one")
        self.jobs = jobs or slots
        # Of a run, in Ray's words.
        self.resources = {"num_cpus": 1.0, "num_gpus": 0.0}
        if kind == "GPU":
            self.resources = {"num_cpus": 0.0, "num_gpus": 1 / math.ceil(self.jobs / slots)}
        self._ray = ray
        # Nodes that join later are used as well.
        self._most = jobs or None

    def costs(self, source: Source, wanted: Sequence[Params]) -> list[Cost]:
        """Measured by a worker, whose device this machine may not have."""
        ((_, found),) = self._each(costs, source, [wanted])
        return found

    def results(self, source: Source, wanted: Sequence[Params]) -> Results:
        """Results as they are there.

        Raises:
            UserError: raised by a run, or when one ended `LIVES` workers.
        """
        for place, result in self._each(_result, source, wanted):
            # A copy can be written to, and frees the cluster's memory.
            yield place, copy.deepcopy(result)

    def _each(
        self, work: Callable[[Runner, Asked], T], source: Source, wanted: Sequence[Asked]
    ) -> Iterator[tuple[int, T]]:
        """What `work` returns of each piece as it is there; pieces that are lost are done again."""
        ray = self._ray
        # Tried again here: Ray itself never stops where memory runs out.
        task = ray.remote(max_retries=0, **self.resources)(_execute)
        waiting, running = deque(range(len(wanted))), dict[object, int]()
        ended = Counter[int]()
        try:
            while waiting or running:
                while waiting and len(running) < (self._most or len(wanted)):
                    place = waiting.popleft()
                    running[task.remote(work, source, wanted[place])] = place
                (done, *_), _ = ray.wait(list(running))
                place = running.pop(done)
                try:
                    found: T = ray.get(done)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from error
                except (ray.exceptions.NodeDiedError, ray.exceptions.ObjectLostError):
                    waiting.append(place)
                except ray.exceptions.RayError as error:
                    ended[place] += 1
                    if ended[place] == LIVES:
                        raise _gave_up(error) from error
                    waiting.append(place)
                else:
                    yield place, found
        finally:
            for one in running:
                ray.cancel(one, force=True)


def _type(device: str, gpus: bool) -> str:
    """The type of the device that a run is on: Ray chooses which of them."""
    if device == "auto":
        return "cuda" if gpus else "cpu"
    found = torch.device(device).type
    if found not in ("cpu", "cuda"):
        raise UserError(f"{PARAMETER}=ray: Ray has no train.device={device}; use auto, cpu or cuda")
    return found


def _gave_up(error: Exception) -> UserError:
    return UserError(
        f"{PARAMETER}=ray: a run ended {LIVES} workers ({type(error).__name__}), most likely out "
        "of memory; finished runs are stored, run it again with a smaller study.jobs, or fewer "
        "cores a node (ray start --num-cpus)"
    )


def _execute(work: Callable[[Runner, Asked], T], source: Source, asked: Asked) -> T:
    """The task, in a worker."""
    torch.set_num_threads(1)
    try:
        return work(_runner(source), asked)
    except UserError as error:
        raise UserError(f"{error} (on node {socket.gethostname()})") from error


@lru_cache(maxsize=1)
def _runner(source: Source) -> Runner:
    """What executes runs in this process, which keeps what it has read last."""
    return source.runner()


def _result(runner: Runner, params: Params) -> Result:
    return runner(params)
