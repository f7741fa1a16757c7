"""Jobs distributed among the actors of a Ray cluster, tolerant of actors and nodes that die."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Generic, TypeVar

from rau.errors import UserError
from rau.progress import tqdm

Job = TypeVar("Job")
# Limit on the actors that end over the same job, and per slot before any actor is ready.
TRIES = 8
WAIT_SECONDS = 60


def machines(ray: ModuleType) -> list[tuple[int, int]]:
    """The cores and GPUs of each machine that is in the cluster now."""
    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(int(own.get("CPU", 0)), int(own.get("GPU", 0))) for own in found]


def places(ray: ModuleType, cores: int, per_gpu: int) -> int:
    """Number of actors that the cluster has room for.

    Each has to fit on one machine, so the total of the cluster's cores does not determine it.

    Args:
        cores: cores of an actor.
        per_gpu: number of actors that share a GPU; 0 for actors without one.
    """
    return sum(
        min(own // cores, gpus * per_gpu) if per_gpu else own // cores
        for own, gpus in machines(ray)
    )


def check_room(ray: ModuleType, cores: int, gpu: bool, parameter: str, option: str) -> int:
    """Number of actors of so many cores, and a GPU each if `gpu`, that the cluster has room for.

    Args:
        parameter: name of the parameter that requested Ray, for the error message.
        option: name of the parameter that sets the cores.

    Raises:
        UserError: if there is no room for a single one.
    """
    if room := places(ray, cores, int(gpu)):
        return room
    needed = (f"{cores} cores" if cores > 1 else "core") + (" and the GPU" if gpu else "")
    raise UserError(
        f"{parameter}=ray: no machine of the cluster has the {needed} of a worker; lower {option}, "
        "or add a machine"
    )


def divide(
    ray: ModuleType,
    make: Callable[[], Any],
    size: Callable[[], int],
    jobs: Iterable[Job],
    remedy: str,
) -> Generator[tuple[Job, Any]]:
    """Yield every job with its result, in the order in which they finish.

    Actors rather than tasks are used, because an actor loads its model once and keeps its GPU. Ray
    does not restart them, because a job would then wait for a machine that never comes back; a new
    actor replaces one that ended, and any free actor takes the job.

    Args:
        make: returns an actor with the methods `start()` and `work(job)`.
        size: returns how many actors the cluster has room for now, so that new machines are used.
        remedy: last part of the error that is raised when actors end repeatedly.

    Raises:
        UserError: when a job raises one, when there is no room for an actor, or when actors end
            repeatedly.
    """
    waiting = _Waiting(iter(jobs), remedy)
    # By the reference to an actor's next result; None while it starts.
    busy: dict[Any, tuple[Any, _Wanted[Job] | None]] = {}
    idle: list[Any] = []
    try:
        while True:
            while idle and (one := waiting.following()) is not None:
                actor = idle.pop()
                busy[actor.work.remote(one.job)] = actor, one
            if idle and not any(one for _, one in busy.values()):
                return
            while not idle and len(busy) < size():
                actor = make()
                busy[actor.start.remote()] = actor, None
            for ref in _finished(ray, busy):
                actor, one = busy.pop(ref)
                try:
                    result = ray.get(ref)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause or error from error
                except ray.exceptions.RayError as error:
                    waiting.lost(one, error, size())
                    continue
                idle.append(actor)
                waiting.failed_starts = 0
                if one is not None:
                    yield one.job, result
    finally:
        for actor in [*idle, *(actor for actor, _ in busy.values())]:
            with suppress(ray.exceptions.RayError):
                ray.kill(actor)


@dataclass(eq=False)
class _Wanted(Generic[Job]):
    """A job, and the number of actors that ended while running it."""

    job: Job
    ended: int = 0


class _Waiting(Generic[Job]):
    """Jobs that are not assigned to an actor, those of ended actors first."""

    def __init__(self, coming: Iterator[Job], remedy: str) -> None:
        self._coming, self._remedy = coming, remedy
        self._again: deque[_Wanted[Job]] = deque()
        self.failed_starts = 0

    def following(self) -> _Wanted[Job] | None:
        """The next job, or None if there is none."""
        if self._again:
            return self._again.popleft()
        return next((_Wanted(job) for job in self._coming), None)

    def lost(self, one: _Wanted[Job] | None, error: Exception, places: int) -> None:
        """Record that an actor ended while running a job, or while starting.

        Args:
            places: number of actors that the cluster has room for; a machine that dies takes all
                of its actors with it.

        Raises:
            UserError: when too many have ended.
        """
        if one is None:
            self.failed_starts += 1
            ended, most = self.failed_starts, TRIES * max(1, places)
        else:
            one.ended += 1
            self._again.append(one)
            ended, most = one.ended, TRIES
        if ended >= most:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{ended} workers on Ray ended one after another ({reason}); {self._remedy}"
            ) from error


def _finished(ray: ModuleType, busy: dict[Any, Any]) -> list[Any]:
    """References whose results are ready; none after a timeout if actors are working on jobs.

    Raises:
        UserError: when there is no actor to wait for.
    """
    if not busy:
        raise UserError(
            "no node of the Ray cluster has room for a worker; check `ray status` and add a node"
        )
    while True:
        done, _ = ray.wait(list(busy), timeout=WAIT_SECONDS)
        if done or any(one for _, one in busy.values()):
            return list(done)
        tqdm.write("no Ray worker has started yet; check that `ray status` shows free cores")
