"""A thread pool with a limit on waiting work."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Busy(Exception):
    """The maximum number of requests is waiting; try again later."""


class Work:
    """Run functions in threads."""

    def __init__(self, threads: int, waiting: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="rau-search")
        self._places = threading.Semaphore(threads + waiting)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function once a thread is free; not at all if the caller is cancelled before.

        Raises:
            Busy: immediately, when too many are waiting.
        """
        if not self._places.acquire(blocking=False):
            raise Busy
        future = self._threads.submit(work, *args, **kwargs)
        # The place is released when the work is done, not when the caller is cancelled.
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Cancel waiting work; running work continues to its end."""
        self._threads.shutdown(wait=False, cancel_futures=True)
