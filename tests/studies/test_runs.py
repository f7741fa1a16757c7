"""A run: its key, its results, and how they are kept."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from rau.errors import UserError
from rau.methods import METHODS
from rau.models.checkpoint import save_state
from rau.models.config import canonical
from rau.studies import (
    evidence,
    plan,
    registry,
    runs,
)
from rau.training import fit
from tests.pipeline.test_dag import sources, within
from tests.places import ROOT
from tests.sources import imported
from tests.studies.synthetic import small_data, tiny


def test_the_code_digest_of_a_run_covers_its_imports() -> None:
    # The plan gives runs their parameters, which are in their key as the method's entry is.
    own = {"rau/studies/runs.py", "rau/studies/plan.py", "rau/methods.py"}
    used = {name.removeprefix("rau/") for name in sources("rau.studies.runs") - own}
    assert used
    assert not {name for name in used if not any(within(name, s) for s in fit.SOURCES)}


def test_runs_share_a_split_only_where_it_is_the_same() -> None:
    data = small_data()
    whole = data.prepared(tiny())
    assert data.prepared(tiny(lr=1e-2)) is whole
    for other in ({"fraction": 0.5}, {"noise": 0.5}, {"holdout": 0.3}):
        assert data.prepared(tiny(**other)).split != whole.split


def test_seeds_share_a_holdout_that_is_fixed() -> None:
    data = small_data()
    first, other, fixed = (
        data.prepared(tiny(**train)).split
        for train in ({"seed": 0}, {"seed": 1}, {"seed": 1, "holdout_seed": 0})
    )
    assert other.holdout != first.holdout
    assert fixed.holdout == first.holdout
    assert fixed.distractors == first.distractors


MEASURES = sorted({name for study in registry.STUDIES for name in registry.load(study).measures})
# Of the module that has the measure of kinds of queries, for its tables.
TABLES_ONLY = {"evaluation/bootstrap.py", "studies/plan.py", "studies/summary.py"}


@pytest.mark.parametrize("measure", MEASURES)
def test_the_key_of_a_run_has_the_code_of_its_measures(measure: str) -> None:
    name = measure.partition(":")[0]
    path = name.removeprefix("rau.").replace(".", "/") + ".py"
    listed = (*fit.SOURCES, *getattr(import_module(name), "SOURCES", ()), path, "studies/runs.py")
    files = {found.relative_to(ROOT / "rau").as_posix() for found in imported(ROOT / "rau" / path)}
    used = {found for found in files if not found.endswith("__init__.py")} - {"params.py"}
    assert used
    assert not {
        one for one in used - TABLES_ONLY if not any(within(one, source) for source in listed)
    }


def test_the_key_of_a_run_changes_with_what_a_measure_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measure = ("rau.studies.evidence:evidence",)
    before = runs.key(canonical(tiny()), "data", "cpu", measure)
    monkeypatch.setattr(evidence, "SOURCES", evidence.SOURCES[:1])
    runs._module_digest.cache_clear()
    assert runs.key(canonical(tiny()), "data", "cpu", measure) != before
    monkeypatch.undo()
    runs._module_digest.cache_clear()
    assert runs.key(canonical(tiny()), "data", "cpu", measure) == before


def test_a_run_is_kept_and_gives_the_same_twice(tmp_path: Path) -> None:
    one, two = (runs.execute(canonical(tiny()), small_data()) for _ in range(2))
    runs.save(tmp_path / "run.safetensors", one)
    back = runs.load(tmp_path / "run.safetensors")
    ignored = {"seconds"}
    assert {k: v for k, v in one.summary.items() if k not in ignored} == {
        k: v for k, v in two.summary.items() if k not in ignored
    }
    assert back.summary == one.summary
    assert {name: list(values) for name, values in back.values.items()} == {
        "original": ["shirt"],
        "val": ["shirt"],
    }
    for name in back.values:
        values = one.values[name]["shirt"]
        np.testing.assert_allclose(back.values[name]["shirt"], values, rtol=1e-6)
        assert len(back.clusters[name]["shirt"]) == len(values)
    assert back.cosines["pairs"].sum() == pytest.approx(1)
    assert back.params["train.seed"] == 0


def test_a_training_that_fails_is_kept_as_one(tmp_path: Path) -> None:
    wild = plan.changed(tiny(), {"ua.dr_weight": 1e38})
    result = runs.execute(canonical(wild), small_data())
    runs.save(tmp_path / "run.safetensors", result)
    back = runs.load(tmp_path / "run.safetensors")
    assert back.failure is not None
    assert "not finite in epoch 1" in back.failure
    assert back.summary == {}


def test_the_headlines_protocol_stays_first(tmp_path: Path) -> None:
    params = plan.changed(tiny(), {"evaluate.headline": "val"})
    made = runs.execute(canonical(params), small_data())
    runs.save(tmp_path / "run.safetensors", made)
    back = runs.load(tmp_path / "run.safetensors")
    assert list(back.values) == list(back.clusters) == ["val", "original"]


def test_key_knows_what_matters() -> None:
    base = canonical(tiny())
    key = runs.key(base, "data", "cpu")
    for same in (canonical(tiny()), plan.changed(base, {"evaluate.bootstrap": 9})):
        assert runs.key(same, "data", "cpu") == key
    others = [
        runs.key(canonical(tiny(seed=1)), "data", "cpu"),
        runs.key(base, "other", "cpu"),
        runs.key(base, "data", "cuda"),
        runs.key(plan.changed(base, {"ua.theta": 0.1}), "data", "cpu"),
        runs.key(plan.changed(base, {"evaluate.unusable": "leave_out"}), "data", "cpu"),
    ]
    assert len({key, *others}) == 6


def test_of_the_registry_a_runs_key_knows_its_own_method_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = canonical(tiny())

    def key() -> str:
        runs._code_digest.cache_clear()
        return runs.key(base, "data", "cpu")

    before = key()
    monkeypatch.setitem(METHODS, "one more", METHODS["rau"])
    assert key() == before
    name = base.head.name
    monkeypatch.setitem(METHODS, name, replace(METHODS[name], fusion="rau.models.fusion:tirg"))
    assert key() != before
    runs._code_digest.cache_clear()


def test_a_run_of_another_form_is_one_line(tmp_path: Path) -> None:
    save_state(tmp_path / "x.safetensors", {}, {"names": []})
    with pytest.raises(UserError, match=r"x.safetensors: \w+: .*; remove it and run"):
        runs.load(tmp_path / "x.safetensors")
