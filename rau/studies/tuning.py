"""Tuning with equal budgets: every method tries as many configurations, on the holdout alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rau.errors import UserError
from rau.files import read_json
from rau.methods import METHODS
from rau.models.config import canonical
from rau.params import Params
from rau.studies.plan import Plan, changed, trials

FINALISTS = 3
FINAL_SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Trial:
    """One configuration that a method tried, and its metric on the holdout with each seed."""

    method: str
    changes: Mapping[str, Any]
    scores: tuple[float, ...]
    chosen: bool


Entry = tuple[str, int]
Measure = Callable[[Sequence[Params]], Sequence[float]]


def _configured(params: Params, name: str, changes: Mapping[str, Any], seed: int) -> Params:
    return canonical(changed(params, {"head.name": name, "train.seed": seed, **changes}))


def configurations(params: Params, sizes: Plan) -> list[Params]:
    """The runs of a tuning, for a forecast: finalists are not known yet, so their number counts."""
    tried = {name: trials(name, params, sizes) for name in METHODS}
    first = [
        _configured(params, name, changes, FINAL_SEEDS[0])
        for name, rows in tried.items()
        for changes in rows
    ]
    finals = [
        _configured(params, name, {}, seed)
        for name, rows in tried.items()
        for _ in rows[:FINALISTS]
        for seed in FINAL_SEEDS[1:]
    ]
    return first + finals


def tune(params: Params, sizes: Plan, measure: Measure) -> list[Trial]:
    """Try every method's configurations with one seed, its best few with more, and choose one.

    Args:
        params: result of `plan.base`.
        sizes: the number of configurations.
        measure: trains heads with the given parameters and returns the metric `train.select` on
            the holdout, in the same order.

    Returns:
        All trials, by method; one per method is chosen, by its mean over the finalists' seeds.
    """
    tried = {name: trials(name, params, sizes) for name in METHODS}
    flat = [(name, changes) for name, rows in tried.items() for changes in rows]
    first = measure([_configured(params, name, row, FINAL_SEEDS[0]) for name, row in flat])
    scores: dict[Entry, list[float]] = {
        (name, i): [] for name, rows in tried.items() for i in range(len(rows))
    }
    for (name, i), score in zip(scores, first, strict=True):
        scores[name, i] = [score]
    finals = [(name, i) for name in METHODS for i in _best(scores, name, FINALISTS)]
    again = [
        _configured(params, name, tried[name][i], seed)
        for name, i in finals
        for seed in FINAL_SEEDS[1:]
    ]
    more = iter(measure(again))
    for entry in finals:
        scores[entry] += [next(more) for _ in FINAL_SEEDS[1:]]
    winners = {name: _winner(scores, name) for name in METHODS}
    return [
        Trial(name, tried[name][i], tuple(found), winners[name] == i)
        for (name, i), found in scores.items()
    ]


def _best(scores: Mapping[Entry, list[float]], name: str, count: int) -> list[int]:
    """Indices of the best trials of a method, the earlier one first among equals."""
    own = [(-found[0], i) for (method, i), found in scores.items() if method == name]
    return [i for _, i in sorted(own)[:count]]


def _winner(scores: Mapping[Entry, list[float]], name: str) -> int:
    """Index of the finalist with the best mean."""
    finalists = {
        i: float(np.mean(found))
        for (method, i), found in scores.items()
        if method == name and len(found) == len(FINAL_SEEDS)
    }
    return max(finalists, key=lambda i: (finalists[i], -i))


def chosen(found: Sequence[Trial]) -> dict[str, dict[str, Any]]:
    """The changes that won, by method."""
    return {trial.method: dict(trial.changes) for trial in found if trial.chosen}


def read_chosen(path: Path, params: Params) -> dict[str, dict[str, Any]]:
    """The changes that the tuning chose, by method.

    Raises:
        UserError: when the file is missing, or they are no changes of these parameters.
    """
    found = read_json(path, "tuning")
    try:
        for changes in found.values():
            changed(params, changes)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        remedy = "run `python -m pipeline.study tune` again"
        raise UserError(f"{path} holds no changes of parameters; {remedy}") from error
    return dict(found)
