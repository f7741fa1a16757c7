"""Timing: a case and its floor take turns in one process, and the figure is the ratio of medians.

A floor is the least work that could give the result, such as a bare matrix product. Machines differ
and are noisy; the ratio of two times measured side by side depends on them less than either time.
"""

import platform
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from time import process_time
from typing import Any, Literal

import torch
from torch.utils.benchmark import timer

PACKAGES = ("torch", "open_clip_torch", "numpy", "pyarrow", "pillow")
Work = Callable[[], object]
Unit = Literal["x", "s", "/s", "bytes", ""]


@dataclass(frozen=True)
class Result:
    """One figure.

    Attributes:
        name: `<group>/<case>/<size>`.
        value: in `unit`.
        unit: `x` for a multiple of the floor, seconds, per second, bytes, or a plain number.
        floor: what the floor is, in words; empty where there is none.
        limit: the largest acceptable value; None where any is.
        seconds: median time of the case, where it was timed.
        floor_seconds: median time of the floor.
    """

    name: str
    value: float
    unit: Unit
    floor: str = ""
    limit: float | None = None
    seconds: float | None = None
    floor_seconds: float | None = None

    @property
    def exceeded(self) -> bool:
        """Whether there is a limit and the value is above it."""
        return self.limit is not None and self.value > self.limit


@dataclass(frozen=True)
class Bench:
    """How to measure.

    Attributes:
        device: where the tensors are.
        repeats: timed runs of every case and floor.
        scale: of the real sizes; less than 1 only tries the cases out.
        scratch: a folder for temporary files.
        load_seconds: how long a service is asked by each number of clients.
    """

    device: torch.device
    repeats: int
    scale: float
    scratch: Path
    load_seconds: float = 60.0

    def size(self, count: int) -> int:
        """A number of rows at this scale, at least 8."""
        return max(8, round(count * self.scale))

    def ratio(
        self, name: str, case: Work, floor: Work, floor_name: str, limit: float | None = None
    ) -> Result:
        """Median time of the case over that of the floor; a first run of each is not counted."""
        case()
        floor()
        turns = [(seconds(case), seconds(floor)) for _ in range(self.repeats)]
        own, bare = map(statistics.median, zip(*turns, strict=True))
        return Result(name, own / bare, "x", floor_name, limit, own, bare)


def seconds(work: Work) -> float:
    """The time that it takes once."""
    # torch's timer waits for what was started on an accelerator.
    started = timer()
    work()
    return timer() - started


def processor_seconds(work: Work) -> float:
    """What it takes of the processor's time once, all threads together."""
    started = process_time()
    work()
    return process_time() - started


def bytes_in(folder: Path) -> int:
    """The size of all files below a folder."""
    return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())


def report(bench: Bench, results: list[Result], load: float) -> dict[str, Any]:
    """The results with what they were measured on, JSON-able; `load` is what ran there besides."""
    return {
        "machine": {
            "processor": _processor(bench.device),
            "threads": torch.get_num_threads(),
            "system": f"{platform.system()} {platform.release()}",
            "load": round(load, 1),
        },
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
        "repeats": bench.repeats,
        "scale": bench.scale,
        "results": [asdict(result) for result in results],
    }


def _processor(device: torch.device) -> str:
    """The model of the GPU or CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
