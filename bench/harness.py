"""Timing in one process: what is measured and its floor in turns, medians of several repeats.

A floor is the least work that could give the result (a bare matrix product, a bare forward pass).
Machines differ and are noisy; a ratio of two times from one run says more than either.
"""

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

PACKAGES = ("torch", "open_clip_torch", "numpy", "pyarrow", "pillow")
Work = Callable[[], object]


@dataclass(frozen=True)
class Result:
    """One figure.

    Attributes:
        name: `<group>/<case>/<size>`.
        value: in `unit`.
        unit: `x` for a ratio to the floor, s, bytes, share, exponent.
        floor: what the value is relative to, in words; empty where it stands alone.
        limit: what is wanted; None where nothing is.
        sense: whether the limit is the most or the least that is wanted.
        detail: the figures that it was made from.
    """

    name: str
    value: float
    unit: str
    floor: str = ""
    limit: float | None = None
    sense: Literal["at most", "at least"] = "at most"
    detail: dict[str, float] = field(default_factory=dict)

    @property
    def reached(self) -> bool | None:
        """Whether the limit is kept; None where there is none."""
        if self.limit is None:
            return None
        return self.value <= self.limit if self.sense == "at most" else self.value >= self.limit

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "reached": self.reached}


@dataclass(frozen=True)
class Bench:
    """How to measure.

    Attributes:
        device: where tensors lie.
        repeats: turns of every case.
        scale: of the data set's sizes, 1 for the real ones; less only to see that a case works.
        scratch: a folder for files, emptied afterwards.
    """

    device: torch.device
    repeats: int
    scale: float
    scratch: Path

    def size(self, count: int) -> int:
        """A number of rows at this scale, at least 8."""
        return max(8, round(count * self.scale))

    def seconds(self, work: Work) -> float:
        """One run, to the end of what it started on the device."""
        self._wait()
        started = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - started

    def turns(self, **works: Work) -> dict[str, float]:
        """Median seconds of each, measured in turns after one run that does not count."""
        for work in works.values():
            work()
        taken: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(self.repeats):
            for name, work in works.items():
                taken[name].append(self.seconds(work))
        return {name: statistics.median(values) for name, values in taken.items()}

    def ratio(
        self, name: str, work: Work, floor: Work, floor_name: str, limit: float | None = None
    ) -> Result:
        """How many times the floor's time the work takes."""
        found = self.turns(seconds=work, floor_seconds=floor)
        value = found["seconds"] / found["floor_seconds"]
        return Result(name, value, "x", floor_name, limit, detail=found)

    def timed(self, name: str, work: Work, limit: float | None = None) -> Result:
        """Seconds of the work alone."""
        return Result(name, self.turns(seconds=work)["seconds"], "s", limit=limit)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    return {
        "device": device.type,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cpu": model,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.release()}",
    }
