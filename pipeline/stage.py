"""Code that every stage shares: one-line errors, time and peak memory, threads."""

import errno
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field, NonNegativeInt

from pipeline import workspace
from rau.errors import UserError
from rau.files import digest_files, write_json
from rau.memory import peak_memory_bytes
from rau.params import Section

LONGEST = 1000  # Characters of an error.
STOPPED = 130  # As shells say of a process that Ctrl-C ended.


def run(main: Callable[..., None], outputs: Callable[[], Sequence[Path]] | None = None) -> None:
    """Run `main` as a command line.

    A `UserError`, a full disk or a file that cannot be used is one line on stderr and exit code 1.
    `outputs` returns the files that the stage wrote: its time and peak memory go to an untracked
    file named by their digest, so that they are never logged for the outputs of another run.
    """
    started = time.perf_counter()
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    try:
        code = app(standalone_mode=False)
        if code == STOPPED:
            raise KeyboardInterrupt  # Typer catches it and returns this code.
        if code is not None:
            sys.exit(code)  # --help, or a command line that was refused
        if outputs is not None:
            _write_timing(Path(sys.argv[0]).stem, time.perf_counter() - started, outputs())
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            _fail(f"no space left on the disk of {error.filename or Path.cwd()}; free some")
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}; check that it exists and can be accessed")
    except (KeyboardInterrupt, typer.Abort):
        print("stopped; run it again to resume", file=sys.stderr)
        sys.exit(STOPPED)
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ("click", "typer"):
            raise
        _fail(f"{getattr(error, 'message', error)}; see --help")


def _fail(message: str) -> None:
    line = "".join(c if c.isprintable() else "?" for c in " ".join(message.split()))
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"
    print(f"error: {line}", file=sys.stderr)
    sys.exit(1)


def peak_device_bytes() -> int | None:
    """Most memory that tensors took on one GPU so far, in bytes; None where none was used."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    most: int = max(map(torch.cuda.max_memory_allocated, range(torch.cuda.device_count())))
    return most


class Timing(Section):
    """Time and peak memory of one run of a stage; `peak_device_bytes` where a GPU was used."""

    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    peak_memory_bytes: NonNegativeInt
    peak_device_bytes: NonNegativeInt | None = None


def read_timing(stage: str, outputs: Sequence[Path]) -> Timing | None:
    """Of the run of a stage that made these outputs; None where it was elsewhere.

    Raises:
        UserError: when the file is damaged.
    """
    path = workspace.timing(stage, digest_files(outputs))
    return Timing.read_json(path, 1 << 16, "remove it") if path.exists() else None


def _write_timing(stage: str, seconds: float, outputs: Sequence[Path]) -> None:
    timing = Timing(
        seconds=round(seconds, 3),
        peak_memory_bytes=peak_memory_bytes(),
        peak_device_bytes=peak_device_bytes(),
    )
    path = workspace.timing(stage, digest_files(outputs))
    write_json(path, timing.model_dump(exclude_none=True))


def cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parallel_jobs() -> int:
    """Number of experiments that DVC's queue runs at the same time, this one included.

    Every worker of `dvc queue start -j N` is a process from the start; a stage that no worker
    started runs alone.
    """
    import psutil

    def is_worker(process: psutil.Process) -> bool:
        try:
            return "queue-worker" in process.cmdline()
        except psutil.Error:
            return False

    if not any(is_worker(parent) for parent in psutil.Process().parents()):
        return 1
    workers = [p for p in psutil.process_iter() if is_worker(p)]
    ids = {p.pid for p in workers}
    return max(1, sum(p.ppid() not in ids for p in workers))


def limit_threads(threads: int) -> int:
    """Set torch's threads; 0 shares the cores among parallel jobs. Returns the number."""
    import torch

    number = threads or max(1, cores() // parallel_jobs())
    torch.set_num_threads(number)
    return number
