"""How long every stage takes to say what it does."""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pipeline
from bench.harness import Bench, Result

HELPERS = ("stage", "store", "workspace")
LIMIT_SECONDS = 1.0


def cases(bench: Bench) -> Iterator[Result]:
    """`python -m pipeline.<stage> --help`, of every stage."""
    folder = Path(pipeline.__file__).parent
    for path in sorted(folder.glob("[!_]*.py")):
        if path.stem not in HELPERS:
            yield bench.timed(
                f"startup/{path.stem}", partial(_help, path.stem, folder.parent), LIMIT_SECONDS
            )


def _help(stage: str, root: Path) -> None:
    command = [sys.executable, "-m", f"pipeline.{stage}", "--help"]
    subprocess.run(command, cwd=root, stdout=subprocess.DEVNULL, check=True)
