"""A pool of processes that never outlive their parent."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection, parent_process
from multiprocessing.context import BaseContext


def nothing() -> None:
    """Initialiser of a pool that needs no preparation."""


@contextmanager
def worker_pool(
    workers: int, context: BaseContext, start: Callable[[], object] = nothing
) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with the block, immediately if it fails or is interrupted.

    They also end when this process is killed.

    Args:
        start: picklable, called in every process before its work.
    """
    executor = ProcessPoolExecutor(workers, context, _start, (start,))
    try:
        yield executor
    except BaseException:
        for process in list((executor._processes or {}).values()):
            process.terminate()
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    executor.shutdown()


def _start(start: Callable[[], object]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    start()


def _end_with_parent() -> None:
    """End this process when its parent has ended, for whatever reason."""
    parent = parent_process()
    assert parent is not None  # A worker always has one.
    connection.wait([parent.sentinel])
    os._exit(1)
