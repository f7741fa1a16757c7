"""Every study with tables of its own, from its variants to its page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rau.params import Params
from rau.studies import (
    breakdown,
    confidence_tables,
    costs,
    findings,
    grid,
    plan,
    registry,
    runs,
    study,
    study_page,
    summary,
)
from rau.studies.defined import cost, dropout, scale
from rau.studies.local_workers import LocalWorkers
from rau.studies.run_store import RunStore
from rau.studies.tables import StudyTables
from tests.studies.synthetic import tiny, write_source

OPEN = ("distributions", "regularisers", "scale", "dropout", "scenarios", "calibration", "cost")


DONE: dict[str, runs.Result] = {}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runs.Source]:
    """The small data set; what runs once is kept for the module."""
    torch.set_num_threads(1)
    yield write_source(tmp_path_factory.mktemp("synthetic"))
    DONE.clear()


@pytest.mark.parametrize("name", OPEN)
def test_a_study_runs_from_its_variants_to_its_page(
    name: str, source: runs.Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def complete(store: RunStore, title: str, wanted: list[Params]) -> list[runs.Result]:
        execute = store.source.runner()
        for one in wanted:
            if store.key(one) not in DONE:
                runs.save(store.path(one), execute(one))
                DONE[store.key(one)] = runs.load(store.path(one))
        return [DONE[store.key(one)] for one in wanted]

    monkeypatch.setattr(RunStore, "complete", complete)
    monkeypatch.setattr(RunStore, "forecast", lambda *_: None)
    for module in (summary, breakdown, scale, dropout, confidence_tables):
        monkeypatch.setattr(module, "RESAMPLES", 50)
    for module in (costs, cost):
        monkeypatch.setattr(module, "WIDTHS", (8, 16, 24))
        monkeypatch.setattr(module, "IMAGES", 60)
    monkeypatch.setattr(costs, "QUERIES", 4)
    monkeypatch.setattr(costs, "REPEATS", 2)
    params = plan.changed(tiny(), {"study.preset": "smoke", "study.epochs": 1})
    store = RunStore(tmp_path / "runs", source, LocalWorkers("cpu", jobs=1, cores=1))
    study.run_study(name, params, {}, store).write(tmp_path / name)
    tables = StudyTables.read(tmp_path / name)
    found = registry.load(name)
    assert set(tables.own) == set(tables.document.own) != set()
    section = study_page.section(tables, found.figure(tables), None)
    text = study_page.render({"data": "d"}, [section])
    assert "mean_of_" not in text
    for heading, shown in section["grids"].items():
        assert heading in text
        assert shown.rows
        assert all(len(row) == len(shown.header) for row in shown.rows)
    assert found.answer(tables) in (page := findings.details(tables, "here", {}, "x.svg"))
    assert all(f"## {heading}" in page for heading in section["grids"])
    if name in ("calibration", "scale"):
        assert all(grid.UNADJUSTED in whole for whole in (text, page))
    assert study.is_current(tables.document, params, {}, store)
    assert not study.is_current(tables.document, plan.changed(params, {"train.lr": 0.5}), {}, store)
    partners = {v.partner or found.reference for v in tables.document.variants}
    assert partners <= {v.label for v in tables.document.variants}
