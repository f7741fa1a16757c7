"""Tuning: equal budgets, and the best by the mean of its seeds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rau.errors import UserError
from rau.files import write_json
from rau.methods import METHODS
from rau.params import Params
from rau.studies import (
    plan,
    study,
    tuning,
)
from rau.studies.run_store import RunStore
from tests.studies.synthetic import local, tiny, write_source


def test_tuning_spends_as_much_on_each_and_takes_the_best() -> None:
    asked: list[Params] = []

    def measure(wanted: Any) -> list[float]:
        asked.extend(wanted)
        # A low temperature wins with seed 0, learning rate 3e-4 with the others.
        return [
            -params.train.temperature
            if params.train.seed == 0
            else float(params.train.lr == 3e-4) - params.train.temperature / 100
            for params in wanted
        ]

    sizes = plan.Plan("smoke", 2, 1, 8)
    found = tuning.tune(plan.base(tiny(), sizes), sizes, measure)
    counts = {name: sum(p.head.name == name for p in asked) for name in METHODS}
    trained = [name for name in METHODS if METHODS[name].blocks] + ["tirg", "combiner"]
    assert {counts[name] for name in trained} == {8 + 2 * tuning.FINALISTS}
    for name in METHODS:
        own = [trial for trial in found if trial.method == name]
        (won,) = [trial for trial in own if trial.chosen]
        finalists = [trial for trial in own if len(trial.scores) == len(tuning.FINAL_SEEDS)]
        assert np.mean(won.scores) == max(np.mean(trial.scores) for trial in finalists)
    assert set(tuning.chosen(found)) == set(METHODS)


def test_tuning_chooses_by_the_mean_of_all_seeds_and_not_by_the_first() -> None:
    sizes = plan.Plan("smoke", 2, 1, 5)
    place: dict[tuple[str, str], int] = {}

    def measure(wanted: Any) -> list[float]:
        """Seed 0 has the trials in falling order; the others say that the third was the best."""
        scores = []
        for params in wanted:
            settings = params.model_dump_json(exclude={"train": {"seed"}})
            name = params.head.name
            own = [key for key in place if key[0] == name]
            number = place.setdefault((name, settings), len(own))
            scores.append(10.0 - number if params.train.seed == 0 else 50.0 * (number == 2))
        return scores

    found = tuning.tune(plan.base(tiny(), sizes), sizes, measure)
    for name in ("rau", "deterministic", "tirg", "combiner"):
        own = [trial for trial in found if trial.method == name]
        assert [trial.scores[0] for trial in own] == [10, 9, 8, 7, 6]
        assert [len(trial.scores) for trial in own] == [3, 3, 3, 1, 1]
        assert [trial.chosen for trial in own] == [False, False, True, False, False]


def test_what_the_tuning_chose_is_taken_where_it_is_current(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs", write_source(tmp_path), local(1))
    path, params = tmp_path / "tuned.json", tiny()
    changes = {"rau": {"ua.n": 2}}
    choice = tuning.Choice(runs=study._tuning_runs(params, store), changes=changes)
    write_json(path, choice.model_dump())
    assert study.tuned(path, params, store) == changes
    for other in ({"train.lr": 0.5}, {"study.trials": 3}, {"evaluate.unusable": "leave_out"}):
        with pytest.raises(UserError, match="made by other code, features or parameters; run `pyt"):
            study.tuned(path, plan.changed(params, other), store)
    no_changes: list[Any] = [{"rau": {"ua.gone": 1}}, {"rau": {"n": 1}}, {"gone": {}}]
    malformed = [[], changes, *({"runs": choice.runs, "changes": own} for own in no_changes)]
    for wrong in malformed:
        write_json(path, wrong)
        with pytest.raises(UserError, match=r"tuned.json: .*; run `python -m pipeline.study tune`"):
            study.tuned(path, params, store)
