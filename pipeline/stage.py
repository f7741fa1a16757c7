"""Code that every stage shares: its command line, its one line of output, its timing."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from rau import console
from rau.params import DatasetParams
from rau.project import timings
from rau.table_metadata import cautions


class Partial(str):
    """The line of work that does not create the stage's outputs, such as a shard or a copy."""


def run(
    main: Callable[..., str | None], outputs: Callable[[], Sequence[Path]] | None = None
) -> None:
    """Run `main` as a command line, with its errors on one line each.

    The result of `main` is printed after the stage's name and time. It is the only line that a
    stage prints if nothing is unusual.

    `outputs` returns the files that the stage wrote: its time and peak memory go to an untracked
    file named by their digest, so that they are never logged for the outputs of another run.
    """
    started = time.perf_counter()
    done: list[str | None] = []

    @wraps(main)
    def command(*values: Any, **options: Any) -> None:
        done.append(main(*values, **options))

    def note() -> None:
        name, seconds = Path(sys.argv[0]).stem, time.perf_counter() - started
        for line in done:
            if outputs is not None and not isinstance(line, Partial):
                timings.write(name, seconds, outputs())
            if line:
                print(f"{name:<14}{seconds:>5.0f} s  {line}")

    console.run(console.command(command), note)


def warn(encoder: Mapping[str, str], dataset: DatasetParams) -> None:
    """Print cautions about an encoder's features of this data set.

    Args:
        encoder: metadata of the features, or a mapping with only `encoder`, its name.
    """
    built_in = (dataset.name, dataset.root) == ("garments", None)
    for caution in cautions(encoder, built_in):
        print(f"warning: {caution}", file=sys.stderr)
