"""A study from its variants to its tables, also where runs fail."""

from pathlib import Path
from typing import Any

import pytest

from rau.errors import UserError
from rau.models.config import canonical
from rau.params import Params, UaParams
from rau.project import study_runs
from rau.studies import (
    figures,
    plan,
    registry,
    runs,
    study,
    summary,
)
from rau.studies.run_store import RunStore
from rau.studies.tables import StudyTables
from tests.places import ROOT
from tests.sources import imported
from tests.studies.synthetic import SIZES, local, results, tiny, variants, write_source


def test_a_study_that_could_not_be_answered_is_refused_before_its_runs(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs", write_source(tmp_path), local(1))
    off = plan.changed(tiny(), {f"ua.{name}": 0.0 for name in ("csu_weight", "dr_weight")})
    off = plan.changed(off, {"ua.isu": False, "study.preset": "smoke"})
    for name in ("methods", "scale", "calibration", "cost"):
        with pytest.raises(UserError, match=f"study {name}: RAU with these ua"):
            study.run_study(name, off, {}, store)
    with pytest.raises(UserError, match="study methods: RAU"):
        study.announce(["ablation", "methods"], off, store)
    towers = plan.changed(tiny(), {"finetune.towers": "none"})
    with pytest.raises(UserError, match=r"study finetune: finetune\.towers=none trains no encoder"):
        study.run_study("finetune", towers, {}, store)
    heads = plan.changed(tiny(), {"train.start": "finetuned"})
    with pytest.raises(UserError, match=r"train\.start: heads of a study"):
        study_runs.store(heads, local(1))
    assert not (tmp_path / "runs").exists()


def test_tables_know_the_code_that_made_them_of_results(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in sorted((ROOT / "rau/studies").glob("*.py")):
        if ROOT / "rau/evaluation/bootstrap.py" in imported(path):
            assert f"studies/{path.name}" in study.STATISTICS
    assert all((ROOT / "rau" / name).is_file() for name in study.STATISTICS)
    digests = {name: study.code_digest(name) for name in registry.STUDIES}
    assert len({*digests.values()}) == len(registry.STUDIES)
    monkeypatch.setattr(study, "STATISTICS", study.STATISTICS[1:])
    assert not digests.items() & {(name, study.code_digest(name)) for name in digests}


def failing(*wild: str) -> registry.Study:
    """A study of two heads, those named with weights of DR that no training survives."""

    def made(params: Params, sizes: plan.Plan, tuned: plan.Tuned) -> list[plan.Variant]:
        return [
            plan.variant(label, params, {"ua.dr_weight": 1e38 if label in wild else weight})
            for label, weight in (("a", 0.1), ("b", 0.2))
        ]

    return registry.Study(
        "x",
        "x?",
        lambda tables: "x",
        "a",
        made,
        lambda tables: figures.panels(1)[0],
        counts_failures=True,
    )


def test_a_study_that_counts_failures_pairs_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore(tmp_path / "runs", write_source(tmp_path), local(1))
    monkeypatch.setattr(store, "forecast", lambda title, wanted: None)
    execute = store.source.runner()
    monkeypatch.setattr(store, "complete", lambda title, wanted: [execute(p) for p in wanted])
    monkeypatch.setattr(registry, "load", lambda name: failing(name))
    params = plan.changed(tiny(select="map"), {"study.preset": "smoke", "study.epochs": 1})
    monkeypatch.setattr(study, "code_digest", lambda name: f"code of {name}")
    tables = study.run_study("b", params, {}, store)
    assert study.is_current(tables.document, params, {}, store)
    assert tables.document.select == "map"
    older = tables.document.model_copy(update={"code": ""})
    assert not study.is_current(older, params, {}, store)
    assert set(tables.summary.variant) == {"a"}
    assert tables.runs.set_index("variant").failure.notna().tolist() == [False, False, True, True]
    tables.write(tmp_path / "b")
    assert StudyTables.read(tmp_path / "b").runs.failure.notna().sum() == 2
    with pytest.raises(UserError, match=r"study a: 2 of 4 runs failed, the first with seed 0: not"):
        study.run_study("a", params, {}, store)


def test_diagnostics_of_a_study_name_the_flood() -> None:
    variant = plan.Variant("x", canonical(Params(ua=UaParams(theta=-0.5))), {})
    (found,) = summary.seed_diagnostics(variant, results(0, 0)[0], None)
    assert found.name == "CSU flooded"
    assert "theta = -0.5" in found.evidence


def test_diagnostics_are_against_a_deterministic_head_or_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, list[runs.Result | None]] = {}

    def note(v: plan.Variant, result: runs.Result, theirs: runs.Result | None) -> list[Any]:
        asked.setdefault(v.label, []).append(theirs)
        return []

    monkeypatch.setattr(summary, "seed_diagnostics", note)
    for name, csu in (("ablation", 0.3), ("n", 0.3), ("n", 0.0), ("regularisers", 0.3)):
        asked.clear()
        params = plan.changed(tiny(), {"ua.csu_weight": csu, "ua.dr_weight": 0.0})
        found, reference = variants(name, plan.base(params, SIZES)), registry.load(name).reference
        made = {v.label: results(0, 0) for v in found}
        study._diagnostics(found, made, dict.fromkeys(made, reference))
        # RAU without blocks still has CSU, and RAU without DR the rest.
        paired = name == "ablation" or (name == "n" and not csu)
        assert asked == {v: made[reference] if paired else [None] * 3 for v in made}
