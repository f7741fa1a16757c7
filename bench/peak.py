"""Peak memory of a function, in a process of its own."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from pipeline.stage import status_bytes


def _child(sender: Connection, work: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    before = status_bytes("VmRSS")
    work(*arguments)
    sender.send((before, status_bytes("VmHWM")))
    sender.close()


def peak_bytes(work: Callable[..., object], *arguments: Any) -> tuple[int, int]:
    """Resident bytes before and at the peak of `work(*arguments)`.

    Args:
        work: a function of a module, which a fresh process can import.

    Raises:
        RuntimeError: when the process died, or the system does not say (all but Linux).
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, work, arguments))
    process.start()
    sender.close()
    try:
        before, peak = receiver.recv()
    except EOFError as error:
        raise RuntimeError(f"{work.__name__} ended without a result") from error
    finally:
        process.join()
    if before is None or peak is None:
        raise RuntimeError("this system has no /proc/self/status")
    return before, peak
