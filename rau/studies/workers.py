"""Interfaces between a run store, the inputs of runs and the workers that execute them."""

import time
from collections.abc import Callable, Generator, Sequence
from typing import Protocol, Self

from rau.params import Params
from rau.studies.runs import Result

Kind = tuple[str, float]
# Seconds per epoch of a run (0 if nothing is trained), and seconds of everything else.
Cost = tuple[float, float]
Runner = Callable[[Params], Result]
# Each result with the index of its run in the given sequence.
Results = Generator[tuple[int, Result], None, None]


class Source(Protocol):
    """Inputs of runs, passed to workers; paths are absolute."""

    def __hash__(self) -> int:
        """Key under which workers cache what they have read."""
        ...

    @property
    def device(self) -> str:
        """Name of the device of the runs, never `auto`."""
        ...

    def measuring(self, measures: tuple[str, ...]) -> Self:
        """The same source with these measurements on every head."""
        ...

    def digest(self) -> str:
        """Digest of all inputs."""
        ...

    def key(self, params: Params, data: str, device: str) -> str:
        """Name of a run, from its parameters, `digest()`, the device type and the code."""
        ...

    def kind(self, params: Params) -> Kind:
        """Kind of a run; epochs of runs of the same kind take equally long."""
        ...

    def epochs(self, params: Params) -> int:
        """Maximum number of epochs of a run."""
        ...

    def shortened(self, params: Params) -> Params:
        """The same run with one epoch."""
        ...

    def runner(self) -> Runner:
        """Return a function that executes runs."""
        ...


class Workers(Protocol):
    """Workers that execute runs in parallel: local processes or a cluster."""

    @property
    def device(self) -> str:
        """Name of the device of the runs, never `auto`."""
        ...

    @property
    def jobs(self) -> int:
        """Number of parallel runs."""
        ...

    def costs(self, source: Source, wanted: Sequence[Params]) -> list[Cost]:
        """Measure the costs of runs of one epoch, in order."""
        ...

    def results(self, source: Source, wanted: Sequence[Params]) -> Results:
        """Yield results as runs finish, in any order.

        Closing the iterator stops the active runs.

        Raises:
            UserError: raised by a run, or if runs terminate their workers.
        """
        ...


def costs(runner: Runner, wanted: Sequence[Params]) -> list[Cost]:
    """Measure the costs of runs of one epoch sequentially."""
    return [_cost(runner, params) for params in wanted]


def _cost(runner: Runner, params: Params) -> Cost:
    started = time.perf_counter()
    summary = runner(params).summary
    whole = time.perf_counter() - started
    epoch = float(summary.get("seconds") or 0.0) if summary.get("parameters") else 0.0
    return epoch, whole - epoch
