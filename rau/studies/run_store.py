"""Finished runs of studies, each stored under a digest of everything its metrics depend on."""

from collections.abc import Sequence
from pathlib import Path

from rau import devices
from rau.params import Params
from rau.studies import runs, workers


class RunStore:
    """Executes runs that are not stored yet, and returns the results of all.

    Args:
        folder: of finished runs, shared by all studies.
        source: tables and features that every run reads.
        jobs: number of runs at once; 0 is one per core on a CPU and one on a GPU.
        cores: number of cores that this process may use.
        with_val: whether val is ranked too.
        title: of progress bars and messages.
    """

    def __init__(
        self,
        folder: Path,
        source: runs.Source,
        *,
        jobs: int,
        cores: int,
        with_val: bool,
        title: str,
    ) -> None:
        device = devices.choose(source.device)
        self.folder, self.source = folder, source
        self.with_val, self.title = with_val, title
        self.jobs = jobs or (cores if device.type == "cpu" else 1)
        self._device, self._data = device.type, source.digest()

    def key(self, params: Params) -> str:
        """Name of a run in the store."""
        return runs.key(params, self._data, self._device, self.with_val)

    def missing(self, wanted: Sequence[Params]) -> list[Params]:
        """The runs that are not stored, each once."""
        by_key = {self.key(params): params for params in wanted}
        return list(workers.missing(by_key, self.folder).values())

    def minutes(self, wanted: Sequence[Params]) -> float:
        """Predicted duration of the runs, from one epoch of each kind of head on this machine."""
        return workers.predict(self.source, wanted, self.jobs, self.with_val) / 60

    def forecast(self, wanted: Sequence[Params]) -> None:
        """Print the predicted duration of the runs that are not stored."""
        count = len({self.key(params) for params in wanted})
        if todo := self.missing(wanted):
            print(
                f"{self.title}: {count} runs, {count - len(todo)} stored; about "
                f"{self.minutes(todo):.0f} minutes for the rest, {self.jobs} at once"
            )

    def complete(self, wanted: Sequence[Params]) -> list[runs.Result]:
        """Results of all runs, in order.

        Raises:
            UserError: raised by a run, or when a worker was killed.
        """
        keys = [self.key(params) for params in wanted]
        by_key = dict(zip(keys, wanted, strict=True))
        workers.complete(by_key, self.folder, self.source, self.jobs, self.with_val, self.title)
        return [runs.load(workers.path(self.folder, key)) for key in keys]
