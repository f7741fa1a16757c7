"""Processes of a pool end with the one that they work for."""

import os
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection

import psutil
import pytest

from rau.worker_pool import worker_pool


def work_for_long(pids: Connection) -> None:
    """What a stage does: two processes at work, then one that waits for the other's result."""
    with worker_pool(2, get_context("spawn")) as pool:
        found = [pool.submit(os.getpid) for _ in range(2)]
        pids.send([one.result() for one in found])
        pool.submit(time.sleep, 60).result()


def test_processes_end_when_their_parent_is_killed() -> None:
    context = get_context("spawn")
    pids, end = context.Pipe()
    parent = context.Process(target=work_for_long, args=(end,))
    parent.start()
    assert pids.poll(60)
    workers = [psutil.Process(pid) for pid in set(pids.recv())]
    parent.kill()
    parent.join()
    assert not psutil.wait_procs(workers, timeout=30)[1]


def fail(pids: list[int]) -> None:
    """Work that is interrupted while a process is busy."""
    with worker_pool(1, get_context("spawn")) as pool:
        pids.append(pool.submit(os.getpid).result())
        pool.submit(time.sleep, 60)
        raise ZeroDivisionError


def test_a_block_that_fails_does_not_wait_for_the_work() -> None:
    started, pids = time.monotonic(), list[int]()
    with pytest.raises(ZeroDivisionError):
        fail(pids)
    left = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    assert not psutil.wait_procs(left, timeout=30)[1]
    assert time.monotonic() - started < 50
