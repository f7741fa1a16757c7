"""Store of finished runs, each under a digest of everything its metrics depend on.

Workers execute runs in parallel. Each run is stored when it finishes, so a stopped study resumes.
"""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import torch

from rau.params import Params
from rau.progress import tqdm
from rau.studies import runs
from rau.studies.workers import Cost, Kind, Source, Workers


class RunStore:
    """Executes runs that are not stored yet, and returns the results of all runs.

    Args:
        folder: folder of finished runs, shared by all studies.
        source: inputs of every run.
        workers: the workers that execute runs.
    """

    def __init__(self, folder: Path, source: Source, workers: Workers) -> None:
        self.folder, self.source, self.workers = folder, source, workers
        # The workers' device: this machine may not have it.
        self._device, self._data = torch.device(source.device).type, source.digest()
        self._costs: dict[Kind, Cost] = {}

    def measuring(self, measures: tuple[str, ...]) -> "RunStore":
        """The same store with these measurements on every head; such runs have their own keys."""
        if not measures:
            return self
        return RunStore(self.folder, self.source.measuring(measures), self.workers)

    def key(self, params: Params) -> str:
        """Name of a run in the store."""
        return self.source.key(params, self._data, self._device)

    def path(self, params: Params) -> Path:
        """Path of the file of a run."""
        return self.folder / f"{self.key(params)}.safetensors"

    def load(self, params: Params) -> runs.Result | None:
        """Load the result of a run; None if it is not stored."""
        path = self.path(params)
        return runs.load(path) if path.exists() else None

    def missing(self, wanted: Sequence[Params]) -> list[Params]:
        """List the runs that are not stored, without duplicates."""
        paths = {self.path(params): params for params in wanted}
        return [params for path, params in paths.items() if not path.exists()]

    def forecast(self, title: str, wanted: Sequence[Params]) -> None:
        """Print the number of runs that are not stored and their predicted duration."""
        forecast(title, [(self, wanted)])

    def seconds(self, wanted: Sequence[Params]) -> float:
        """Predict the duration of runs in seconds from one epoch of each kind of run."""
        kinds = {self.source.kind(params): params for params in wanted}
        if unknown := sorted(kinds.keys() - self._costs.keys()):
            short = [self.source.shortened(kinds[kind]) for kind in unknown]
            measured = self.workers.costs(self.source, short)
            self._costs.update(zip(unknown, measured, strict=True))
        found = [(*self._costs[self.source.kind(p)], self.source.epochs(p)) for p in wanted]
        return sum(epoch * epochs + rest for epoch, rest, epochs in found) / self.workers.jobs

    def complete(self, title: str, wanted: Sequence[Params]) -> list[runs.Result]:
        """Return the results of all runs, in order; `title` labels the progress bar.

        Raises:
            UserError: raised by a run, or if runs terminate their workers or the disk is full.
        """
        paths = [self.path(params) for params in wanted]
        count = len(set(paths))
        if todo := self.missing(wanted):
            self._execute(title, count, todo)
        else:
            print(f"{title}: all {count} runs are stored")
        return [runs.load(path) for path in paths]

    def _execute(self, title: str, count: int, todo: list[Params]) -> None:
        # Sorted by seed, so that each worker prepares few splits.
        todo = sorted(todo, key=lambda params: params.train.seed)
        bar = tqdm(total=count, initial=count - len(todo), desc=title, unit="run")
        with bar, closing(self.workers.results(self.source, todo)) as results:
            for place, result in results:
                runs.save(self.path(todo[place]), result)
                bar.update()


def forecast(title: str, parts: Sequence[tuple[RunStore, Sequence[Params]]]) -> None:
    """Print the number of missing runs and their predicted duration, in stores of one kind."""
    count = sum(len({store.path(params) for params in wanted}) for store, wanted in parts)
    todo = [(store, store.missing(wanted)) for store, wanted in parts]
    if left := sum(len(missing) for _, missing in todo):
        seconds = sum(store.seconds(missing) for store, missing in todo)
        print(
            f"{title}: {count} runs, {count - left} stored; at most {seconds / 60:.0f} minutes "
            f"for the rest, {parts[0][0].workers.jobs} at once"
        )
