"""A command line that prints each error as one line."""

import errno
import io
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
STOPPED = 130  # The exit code that shells report after Ctrl-C.


def command(main: Callable[..., Any]) -> typer.Typer:
    """The command line of one function, as Typer reads its annotations."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    return app


def run(app: typer.Typer, finished: Callable[[], None] = lambda: None) -> None:
    """Run a command line.

    A `UserError`, a full disk, a full GPU or an unusable file prints one line on stderr and exits
    with code 1.

    Args:
        finished: called after the command, unless it failed, was refused or only showed its help.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names in the data have letters that the user's encoding may not have.
        sys.stdout.reconfigure(errors="replace")
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
            _fail(f"no space left on the disk of {error.filename or Path.cwd()}; free some space")
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
        # Unlike `message`, it names the argument or option.
        message = getattr(error, "format_message", error.__str__)()
        _fail(f"{message.rstrip('.')}; see --help")


def _device_is_full(error: Exception) -> bool:
    """Whether it is torch's error, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def printable(text: str) -> str:
    """A name or a value from the data in a form that is safe on a terminal, on one line.

    Whitespace becomes spaces; control characters, such as those of escape sequences, and bytes that
    are not text become `?`.
    """
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)


def _fail(message: str) -> None:
    line = printable(" ".join(message.split()))
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"
    print(f"error: {line}", file=sys.stderr)
    sys.exit(1)
