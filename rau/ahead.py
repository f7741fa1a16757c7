"""Work done by threads ahead of whoever asks for its results."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def ahead(work: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Generator[Result]:
    """The results of the jobs in their order, two a thread ahead of the one that is asked for.

    Threads and not processes: decoding, resizing and torch leave Python's lock, and a process
    forked beside torch's threads hangs. An exception of a job is raised in its place.
    """
    coming = iter(jobs)
    pool = ThreadPoolExecutor(workers)
    try:
        started = deque(pool.submit(work, job) for job in islice(coming, 2 * workers))
        while started:
            result = started.popleft().result()
            started.extend(pool.submit(work, job) for job in islice(coming, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
