"""A command line whose errors are one line each."""

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from rau.errors import UserError

LONGEST = 1000  # Characters of an error.
LESS_MEMORY = (
    "lower features.batch_size or train.batch_size, in fine-tuning set finetune.micro_batch or "
    "finetune.checkpointing, or use train.device=cpu"
)
STOPPED = 130  # As shells say of a process that Ctrl-C ended.


def command(main: Callable[..., Any]) -> typer.Typer:
    """The command line of one function, as Typer reads its annotations."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    return app


def run(app: typer.Typer, finished: Callable[[], None] = lambda: None) -> None:
    """Run a command line.

    A `UserError`, a full disk, a full GPU or a file that cannot be used is one line on stderr and
    exit code 1.

    Args:
        finished: called after the command, unless it failed, was refused or only showed its help.
    """
    try:
        code = app(standalone_mode=False)
        if code == STOPPED:
            raise KeyboardInterrupt  # Typer catches it and returns this code.
        if code is not None:
            sys.exit(code)  # --help, or a command line that was refused
        finished()
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
        if _device_is_full(error):
            _fail(f"the GPU's memory is full; {LESS_MEMORY}")
        if type(error).__module__.split(".")[0] not in ("click", "typer"):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.exit(2)  # The help is printed.
        # It names the argument or option, as `message` alone does not.
        message = getattr(error, "format_message", error.__str__)()
        _fail(f"{message.rstrip('.')}; see --help")


def _device_is_full(error: Exception) -> bool:
    """Whether it is torch's error, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def printable(text: str) -> str:
    """A name or a value of the data as a terminal may show it, on one line.

    Blanks of any kind become spaces; `?` stands for control characters, as those of escape
    sequences, and for bytes that are no text.
    """
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)


def _fail(message: str) -> None:
    line = printable(" ".join(message.split()))
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"
    print(f"error: {line}", file=sys.stderr)
    sys.exit(1)
