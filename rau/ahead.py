"""Jobs executed by threads ahead of the consumer of their results."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def ahead(work: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Generator[Result]:
    """Yield the results of the jobs in order, prefetching two per thread.

    Threads are used rather than processes: decoding, resizing and torch release the GIL, and a
    process forked next to torch's threads can hang. An exception of a job is raised in its place.
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
