"""Jobs divided among the actors of a Ray cluster, through whatever ends them."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from types import ModuleType
from typing import Any, TypeVar

from rau.errors import UserError
from rau.progress import tqdm

Job = TypeVar("Job")
# Actors that may end over the same job, or one after another before any is ready.
TRIES = 8
WAIT_SECONDS = 60


def divide(
    ray: ModuleType,
    make: Callable[[], Any],
    size: Callable[[], int],
    jobs: Iterable[Job],
    remedy: str,
) -> Generator[tuple[Job, Any]]:
    """Yield every job with its result, in the order in which they finish.

    Actors and not tasks: one loads its model once, and keeps the GPU that it has. Ray does not
    restart them, since it would have a job wait for a machine that never comes back; a new one
    takes the place of one that ended, and any that is free the job.

    Args:
        make: gives an actor with the methods `start()` and `work(job)`.
        size: how many the cluster has room for now: those of a new machine are used, too.
        remedy: ends the error where actors end again and again.

    Raises:
        UserError: also what a job raises; when there is no room for an actor, or they end again
            and again.
    """
    coming = iter(jobs)
    again: deque[tuple[Job, int]] = deque()
    busy: dict[Any, tuple[Any, tuple[Job, int] | None]] = {}
    idle: list[Any] = []
    failed_starts = 0

    def following() -> tuple[Job, int] | None:
        if again:
            return again.popleft()
        return next(((job, 0) for job in coming), None)

    try:
        while True:
            while idle and (job := following()) is not None:
                actor = idle.pop()
                busy[actor.work.remote(job[0])] = actor, job
            if idle and all(job is None for _, job in busy.values()):
                return
            while not idle and len(busy) < size():
                actor = make()
                busy[actor.start.remote()] = actor, None
            for ref in _finished(ray, busy):
                actor, job = busy.pop(ref)
                try:
                    result = ray.get(ref)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause or error from error
                except ray.exceptions.RayError as error:
                    failed_starts += job is None
                    ended = failed_starts if job is None else job[1] + 1
                    if ended >= TRIES:
                        reason = str(error).splitlines()[0]
                        raise UserError(
                            f"{ended} workers on Ray ended one after another ({reason}); {remedy}"
                        ) from error
                    if job is not None:
                        again.append((job[0], ended))
                    continue
                idle.append(actor)
                failed_starts = 0
                if job is not None:
                    yield job[0], result
    finally:
        for actor in [*idle, *(actor for actor, _ in busy.values())]:
            with suppress(ray.exceptions.RayError):
                ray.kill(actor)


def _finished(ray: ModuleType, busy: dict[Any, Any]) -> list[Any]:
    """One reference whose result is there, after a while."""
    if not busy:
        raise UserError(
            "no machine of the Ray cluster has room for a worker; see `ray status`, and add one"
        )
    while True:
        done, _ = ray.wait(list(busy), timeout=WAIT_SECONDS)
        if done or any(job is not None for _, job in busy.values()):
            return list(done)
        tqdm.write("no worker on Ray has started yet; does `ray status` show free cores?")
