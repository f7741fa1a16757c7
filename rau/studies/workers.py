"""What runs read and who executes them, as a run store knows both."""

import time
from collections.abc import Callable, Generator, Sequence
from typing import Protocol, Self

from rau.params import Params
from rau.studies.runs import Result

Kind = tuple[str, float]
# Seconds of a run's epoch, 0 where nothing is trained, and of everything else.
Cost = tuple[float, float]
Runner = Callable[[Params], Result]
# Each with its place among the runs that were wanted.
Results = Generator[tuple[int, Result], None, None]


class Source(Protocol):
    """What runs read, as workers are given it; its paths are absolute."""

    def __hash__(self) -> int:
        """Workers keep what they have read."""
        ...

    @property
    def device(self) -> str:
        """Name of the device that runs are on, never `auto`."""
        ...

    def measuring(self, measures: tuple[str, ...]) -> Self:
        """The same, where these are measured on every head."""
        ...

    def digest(self) -> str:
        """Digest of all that is read."""
        ...

    def key(self, params: Params, data: str, device: str) -> str:
        """Name of a run: of its parameters, `digest()`, the type of the device and the code."""
        ...

    def kind(self, params: Params) -> Kind:
        """Runs of one kind have epochs that take equally long."""
        ...

    def epochs(self, params: Params) -> int:
        """Most epochs of a run."""
        ...

    def shortened(self, params: Params) -> Params:
        """The same run with one epoch."""
        ...

    def runner(self) -> Runner:
        """What executes runs on one thread."""
        ...


class Workers(Protocol):
    """Who executes runs, many at once and each on one thread: processes here, or a cluster."""

    @property
    def device(self) -> str:
        """Name of the device that runs are on, never `auto`."""
        ...

    @property
    def jobs(self) -> int:
        """Number of runs at once."""
        ...

    def costs(self, source: Source, wanted: Sequence[Params]) -> list[Cost]:
        """What runs of one epoch cost, in order."""
        ...

    def results(self, source: Source, wanted: Sequence[Params]) -> Results:
        """Results as they are there, in whatever order.

        Closing the iterator stops the runs under way.

        Raises:
            UserError: raised by a run, or when runs end their workers.
        """
        ...


def costs(runner: Runner, wanted: Sequence[Params]) -> list[Cost]:
    """What runs of one epoch cost, one after another."""
    return [_cost(runner, params) for params in wanted]


def _cost(runner: Runner, params: Params) -> Cost:
    started = time.perf_counter()
    summary = runner(params).summary
    whole = time.perf_counter() - started
    epoch = float(summary.get("seconds") or 0.0) if summary.get("parameters") else 0.0
    return epoch, whole - epoch
