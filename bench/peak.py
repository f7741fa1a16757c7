"""Seconds and peak memory of a function, in a process of its own."""

import multiprocessing
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pipeline.stage import status_bytes


@dataclass(frozen=True)
class Cost:
    """What a work took: seconds, and resident bytes before it and at its peak."""

    seconds: float
    before: int
    peak: int


def _child(sender: Connection, prepare: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    work = prepare(*arguments)
    before = status_bytes("VmRSS")
    with suppress(OSError):
        # Preparing may have needed more. Where Linux forbids to forget that, the peak is its.
        Path("/proc/self/clear_refs").write_text("5")
    started = time.perf_counter()
    work()
    sender.send((time.perf_counter() - started, before, status_bytes("VmHWM")))
    sender.close()


def cost(prepare: Callable[..., Callable[[], object]], *arguments: Any) -> Cost:
    """What the work that `prepare(*arguments)` returns takes, its preparation not counted.

    Args:
        prepare: a function of a module, which a fresh process can import.

    Raises:
        RuntimeError: when the process died, or the system does not say (all but Linux).
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, prepare, arguments))
    process.start()
    sender.close()
    try:
        seconds, before, peak = receiver.recv()
    except EOFError as error:
        raise RuntimeError(f"{prepare.__name__}{arguments} ended without a result") from error
    finally:
        process.join()
    if before is None or peak is None:
        raise RuntimeError("this system has no /proc/self/status")
    return Cost(seconds, before, peak)


def peak_bytes(work: Callable[..., object], *arguments: Any) -> tuple[int, int]:
    """Resident bytes before and at the peak of `work(*arguments)`; errors as above."""
    found = cost(partial, work, *arguments)
    return found.before, found.peak
