"""Timing: a case and its floor alternate in one process; the result is the ratio of their medians.

A floor is the minimal work for the result, such as a matrix product. Machines differ and are noisy;
a ratio of two times measured side by side depends on the machine less than either time.
"""

import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from time import process_time
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.benchmark import timer

PACKAGES = ("torch", "open_clip_torch", "numpy", "pyarrow", "pillow")
Work = Callable[[], object]
Unit = Literal["x", "s", "/s", "bytes", ""]


@dataclass(frozen=True)
class Result:
    """One measured value.

    Attributes:
        name: `<group>/<case>/<size>`.
        value: the value, in `unit`.
        unit: `x` for a multiple of the floor, seconds, per second, bytes, or empty for a number.
        floor: description of the floor; empty if there is none.
        limit: largest acceptable value; None if there is no limit.
        seconds: median time of the case, if it was timed.
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
    """Settings of the benchmarks.

    Attributes:
        device: device of the tensors.
        repeats: number of timed runs of each case and floor.
        scale: factor of the real sizes; values below 1 are only for trying the cases.
        scratch: folder for temporary files.
        load_seconds: duration of the load on a service for each number of clients.
    """

    device: torch.device
    repeats: int
    scale: float
    scratch: Path
    load_seconds: float = 60.0

    def size(self, count: int) -> int:
        """Scale a number of rows; the result is at least 8."""
        return max(8, round(count * self.scale))

    def ratio(
        self, name: str, case: Work, floor: Work, floor_name: str, limit: float | None = None
    ) -> Result:
        """Median time of the case divided by that of the floor, after a warm-up run of each."""
        case()
        floor()
        turns = [(seconds(case), seconds(floor)) for _ in range(self.repeats)]
        own, bare = map(statistics.median, zip(*turns, strict=True))
        return Result(name, own / bare, "x", floor_name, limit, own, bare)


def seconds(work: Work) -> float:
    """Time of one execution."""
    # torch's timer synchronises with the accelerator.
    started = timer()
    work()
    return timer() - started


def exponent(points: Sequence[tuple[int, float]]) -> float:
    """Slope of the logarithms: the power of the size, given first, with which a value grows."""
    size, value = np.log(np.array(points)).T
    return float(np.polyfit(size, value, 1)[0])


def processor_seconds(work: Work) -> float:
    """CPU time of one execution, summed over all threads."""
    started = process_time()
    work()
    return process_time() - started


def bytes_in(folder: Path) -> int:
    """Total size of all files below a folder."""
    return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())


def report(bench: Bench, results: list[Result], load: float) -> dict[str, Any]:
    """Results with machine and versions, for JSON; `load` is the load average before measuring."""
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
    """Name of the GPU or CPU model."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
