"""Peak memory of a function, in a process of its own."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def _status(field: str) -> int:
    """A size of this process in bytes, as Linux reports it: VmRSS now, VmHWM at its largest."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def _child(sender: Connection, work: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    before = _status("VmRSS")
    work(*arguments)
    sender.send((before, _status("VmHWM")))
    sender.close()


def peak_bytes(work: Callable[..., object], *arguments: Any) -> tuple[int, int]:
    """Resident bytes before and at the peak of `work(*arguments)`.

    Args:
        work: a function of a module, which a fresh process can import.

    Raises:
        RuntimeError: when the process died.
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
    return before, peak
