"""Tuning with equal budgets: the same number of configurations per method, on the holdout."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import model_validator

from rau.methods import METHODS
from rau.models.config import canonical
from rau.params import Params, Section
from rau.studies.plan import Plan, changed, trials

REMEDY = "run `python -m pipeline.study tune` again"
MAX_BYTES = 2**20
FINALISTS = 3
FINAL_SEEDS = (0, 1, 2)
Measure = Callable[[Sequence[Params]], Sequence[float]]


@dataclass
class Trial:
    """A configuration of a method and its metric on the holdout with each seed."""

    method: str
    changes: Mapping[str, Any]
    scores: list[float] = field(default_factory=list)
    chosen: bool = False

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return float(np.mean(self.scores))


def tune(params: Params, sizes: Plan, measure: Measure) -> list[Trial]:
    """Try each method's configurations with one seed, the best with more seeds, and choose one.

    Args:
        params: result of `plan.base`.
        sizes: contains the number of configurations.
        measure: trains heads with the given parameters and returns the metric `train.select` on
            the holdout, in the same order.

    Returns:
        All trials, by method; for each method, the finalist with the highest mean over seeds is
        chosen (the earlier one in case of a tie).
    """
    tried = {n: [Trial(n, changes) for changes in trials(n, params, sizes)] for n in METHODS}

    def add_scores(to: Sequence[Trial], seeds: Sequence[int]) -> None:
        wanted = [
            {"head.name": trial.method, "train.seed": seed, **trial.changes}
            for trial in to
            for seed in seeds
        ]
        scores = iter(measure([canonical(changed(params, changes)) for changes in wanted]))
        for trial in to:
            trial.scores += [next(scores) for _ in seeds]

    found = [trial for own in tried.values() for trial in own]
    add_scores(found, FINAL_SEEDS[:1])
    best = [sorted(own, key=lambda t: -t.scores[0])[:FINALISTS] for own in tried.values()]
    add_scores([trial for own in best for trial in own], FINAL_SEEDS[1:])
    for own in tried.values():
        finalists = [trial for trial in own if len(trial.scores) == len(FINAL_SEEDS)]
        max(finalists, key=lambda trial: trial.mean).chosen = True
    return found


def chosen(found: Sequence[Trial]) -> dict[str, dict[str, Any]]:
    """The chosen changes, by method."""
    return {trial.method: dict(trial.changes) for trial in found if trial.chosen}


class Choice(Section):
    """The result of a tuning: the content of `tuned.json`.

    Attributes:
        runs: digest of the names of the first runs of the tuning, which depend on code, features
            and parameters.
        changes: the chosen changes, by method.
    """

    runs: str
    changes: dict[str, dict[str, Any]]

    @model_validator(mode="after")
    def _of_parameters(self) -> Self:
        for name, own in self.changes.items():
            try:
                changed(Params(), {"head.name": name, **own})
            except (KeyError, ValueError):
                raise ValueError(f"{name}: {own} are no changes of parameters") from None
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file; raises a UserError if it is missing or malformed."""
        return cls.read_json(path, MAX_BYTES, REMEDY)
