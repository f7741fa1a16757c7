"""One of two processes fails while they wait: `python -m tests.finetuning.failing RANK HOW`."""

import os
import signal
import sys
import time

import typer

from rau import console
from rau.errors import UserError
from rau.finetuning.processes import Processes


def main(rank: int, how: str) -> None:
    """Fail in the process of this rank, or in both with -1."""
    with Processes("cpu", 2) as processes:
        processes.wait()
        if how == "bug" and processes.rank == rank:
            raise ValueError("a bug")
        if how == "kill" and processes.rank == rank:
            os.kill(os.getpid(), signal.SIGKILL)
        if rank in (processes.rank, -1):
            raise UserError("this one failed")
        if how == "busy":
            time.sleep(1000)
        processes.wait()
    print("went on")


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command(context_settings={"ignore_unknown_options": True})(main)
    console.run(app)
    sys.exit("it did not fail")
