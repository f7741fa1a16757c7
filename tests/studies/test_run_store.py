"""Runs that are done once, with what a study measures on them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rau.models.config import canonical
from rau.params import Params
from rau.studies import (
    plan,
    runs,
)
from rau.studies.local_workers import LocalWorkers
from rau.studies.run_store import RunStore
from tests.studies.synthetic import local, tiny, write_source


def count_queries(trained: runs.Trained) -> dict[str, Any]:
    """A measure: of a name that a study gives, in the worker that trained the head."""
    tasks = trained.data.tasks(trained.protocol)
    return {
        "queries": np.array([len(task.target) for task in tasks]),
        "half": np.array([0.5], np.float16),
    }


COUNT = f"{__name__}:count_queries"


def test_what_a_study_measures_is_kept_with_the_run_and_apart_from_others(tmp_path: Path) -> None:
    plain = RunStore(tmp_path / "runs", write_source(tmp_path), local(1))
    store, params = plain.measuring((COUNT,)), canonical(tiny())
    assert plain.measuring(()).key(params) == plain.key(params) != store.key(params)
    runs.save(store.path(params), store.source.runner()(params))
    found = store.load(params)
    assert found is not None
    assert found.extra["count_queries/queries"].tolist() == [24]
    assert found.extra["count_queries/half"].dtype == np.float16
    assert plain.missing([params]) == [params]


def test_finished_runs_are_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_source(tmp_path)
    first, second = (canonical(tiny(seed=seed)) for seed in (0, 1))
    wanted = [first, second]
    one, two = (RunStore(tmp_path / "runs", source, local(n)) for n in (1, 2))
    one.complete("half", [first])
    before = one.path(first).stat().st_mtime_ns
    assert one.missing(wanted) == [second]
    two.forecast("whole", wanted)
    assert (
        "whole: 2 runs, 1 stored; at most 0 minutes for the rest, 2 at once"
        in capsys.readouterr().out
    )
    found = two.complete("whole", wanted)
    assert one.path(first).stat().st_mtime_ns == before
    assert not one.missing(wanted)
    two.forecast("again", wanted)
    assert not capsys.readouterr().out
    two.complete("again", wanted)
    assert "again: all 2 runs are stored" in capsys.readouterr().out
    alone = runs.execute(second, source.read())
    for name, values in alone.values.items():
        np.testing.assert_allclose(found[1].values[name]["shirt"], values["shirt"], rtol=1e-6)
    assert two.seconds(wanted) > two.seconds([second]) > 0
    assert two.seconds([]) == 0


def test_a_forecast_measures_every_share_of_the_queries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore(tmp_path / "runs", write_source(tmp_path), local(1))
    ten = plan.changed(tiny(), {"train.epochs": 10})
    whole, part = (canonical(plan.changed(ten, {"train.fraction": share})) for share in (1.0, 0.1))

    def costs(source: runs.Source, wanted: list[Params]) -> list[tuple[float, float]]:
        return [(100 * params.train.fraction, 1.0) for params in wanted]

    monkeypatch.setattr(LocalWorkers, "costs", lambda self, *asked: costs(*asked))
    assert store.seconds([whole, part]) == pytest.approx(10 * 100 + 1 + 10 * 10 + 1)
    assert store.seconds([part, whole]) == store.seconds([whole, part])
