"""Time and peak memory of the runs of stages, in untracked files named by digests of the outputs.

They are therefore never logged for the outputs of another run.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeInt

from rau.files import digest_files, write_json
from rau.memory import peak_memory_bytes
from rau.params import Section
from rau.project import workspace


class Timing(Section):
    """Time and peak memory of one run of a stage; `peak_device_bytes` if a GPU was used.

    `ended` is in seconds since 1970; None in files of older versions.
    """

    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    peak_memory_bytes: NonNegativeInt
    peak_device_bytes: NonNegativeInt | None = None
    ended: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


def read(stage: str, outputs: Sequence[Path]) -> Timing | None:
    """Read the timing of the stage's run that created these outputs; None if it is unknown.

    Raises:
        UserError: when the file is damaged.
    """
    path = workspace.timing(stage, digest_files(outputs))
    return Timing.read_json(path, 1 << 16, "remove it") if path.exists() else None


def write(stage: str, seconds: float, outputs: Sequence[Path]) -> None:
    """Write the timing of the current process, which took `seconds` to create the outputs."""
    timing = Timing(
        seconds=round(seconds, 3),
        peak_memory_bytes=peak_memory_bytes(),
        peak_device_bytes=peak_device_bytes(),
        ended=round(time.time(), 3),
    )
    path = workspace.timing(stage, digest_files(outputs))
    write_json(path, timing.model_dump(exclude_none=True))


def peak_device_bytes() -> int | None:
    """Peak memory of tensors on any one GPU so far, in bytes; None if no GPU was used."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    most: int = max(map(torch.cuda.max_memory_allocated, range(torch.cuda.device_count())))
    return most
