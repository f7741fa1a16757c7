"""A few threads that compute, and a limit on what may wait for them."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Busy(Exception):
    """As many requests wait as may; ask again later."""


class Work:
    """Runs functions in threads."""

    def __init__(self, threads: int, waiting: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="rau-search")
        self._places = threading.Semaphore(threads + waiting)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function as soon as a thread is free; where the caller gives up before, not at all.

        Raises:
            Busy: at once, when too many wait.
        """
        if not self._places.acquire(blocking=False):
            raise Busy
        future = self._threads.submit(work, *args, **kwargs)
        # The place is free when the work is done, not when nobody wants it any more.
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Drop what waits; what runs ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
