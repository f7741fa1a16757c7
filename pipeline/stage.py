"""Code that every stage shares: its one line, time and peak memory."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt

from rau import console
from rau.files import digest_files, write_json
from rau.memory import peak_memory_bytes
from rau.params import DatasetParams, Section
from rau.project import workspace
from rau.table_metadata import cautions


class Partial(str):
    """The line of work that took another time than the stage's outputs do: a share, a copy."""


def run(
    main: Callable[..., str | None], outputs: Callable[[], Sequence[Path]] | None = None
) -> None:
    """Run `main` as a command line, with its errors on one line each.

    What `main` returns is printed behind the stage's name and time: the one line of a stage that
    met nothing unusual.

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
                _write_timing(name, seconds, outputs())
            if line:
                print(f"{name:<14}{seconds:>5.0f} s  {line}")

    console.run(console.command(command), note)


def warn(encoder: Mapping[str, str], dataset: DatasetParams) -> None:
    """Print what a reader must know of an encoder's features of this data set.

    Args:
        encoder: metadata of the features, or `encoder` alone: its name.
    """
    built_in = (dataset.name, dataset.root) == ("garments", None)
    for caution in cautions(encoder, built_in):
        print(f"warning: {caution}", file=sys.stderr)


def peak_device_bytes() -> int | None:
    """Most memory that tensors took on one GPU so far, in bytes; None where none was used."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    most: int = max(map(torch.cuda.max_memory_allocated, range(torch.cuda.device_count())))
    return most


class Timing(Section):
    """Time and peak memory of one run of a stage; `peak_device_bytes` where a GPU was used.

    `ended` is in seconds since 1970; None in files of older versions.
    """

    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    peak_memory_bytes: NonNegativeInt
    peak_device_bytes: NonNegativeInt | None = None
    ended: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


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
        ended=round(time.time(), 3),
    )
    path = workspace.timing(stage, digest_files(outputs))
    write_json(path, timing.model_dump(exclude_none=True))
