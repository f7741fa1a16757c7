"""Studies: variants that are what they say, runs that are done once, tables that hold up."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rau.errors import UserError
from rau.files import write_json
from rau.methods import DETERMINISTIC, METHODS
from rau.models.checkpoint import save_state
from rau.models.config import canonical
from rau.models.head import ComposedHead
from rau.params import Params, StudyParams, UaParams
from rau.project import study_runs
from rau.report.html import mark
from rau.report.numbers import signed
from rau.schemas import GalleryRow, ends
from rau.studies import (
    answers,
    figures,
    grid,
    holdout,
    plan,
    registry,
    runs,
    study,
    study_page,
    summary,
    tuning,
)
from rau.studies.local_workers import LocalWorkers
from rau.studies.run_store import RunStore
from rau.studies.tables import StudyDocument, StudyTables, VariantRecord
from rau.training import fit
from tests.heads import small_config
from tests.pipeline.test_dag import sources, within
from tests.places import ROOT
from tests.report.test_report import Links
from tests.sources import imported
from tests.training.test_trainer import params as small
from tests.training.test_trainer import world

SIZES = plan.Plan("smoke", 2, 1, 3)


def tiny(**train: Any) -> Params:
    chosen = small(epochs=1, **train)
    return plan.changed(chosen, {"dataset.name": "fashioniq", "evaluate.bootstrap": 0})


def variants(study: str, params: Params) -> list[plan.Variant]:
    return plan.distinct(registry.load(study).variants(params, SIZES, {}))


def local(jobs: int) -> LocalWorkers:
    return LocalWorkers("cpu", jobs=jobs, cores=4)


def small_world() -> runs.StudyData:
    features, queries = world()
    val = [q for q in queries if q["split"] == "val"]
    members = sorted({(q["category"], end) for q in val for end in ends(q)})
    rows: list[GalleryRow] = [
        {"gallery": gallery, "category": category, "image_id": end}
        for gallery in ("original", "val-union")
        for category, end in members
    ]
    return runs.StudyData(features, queries, rows)


def test_the_code_digest_of_a_run_covers_its_imports() -> None:
    # The plan gives runs their parameters, which are in their key as the method's entry is.
    own = {"rau/studies/runs.py", "rau/studies/plan.py", "rau/methods.py"}
    used = {name.removeprefix("rau/") for name in sources("rau.studies.runs") - own}
    assert used
    assert not {name for name in used if not any(within(name, s) for s in fit.SOURCES)}


def test_ablation_has_all_eight_and_ends_where_it_should() -> None:
    found = variants("ablation", plan.base(tiny(), SIZES))
    assert len({variant.params for variant in found}) == 8
    assert len({tuple(variant.x.values()) for variant in found}) == 8
    row = summary.run_row(found[-1], 0, "key", results(0, 0)[0])
    assert (row["ISU"], row["CSU"], row["DR"]) == (True, True, True)
    none, everything = found[0], found[-1]
    assert none.label == registry.load("ablation").reference
    assert none.params.head.name == "deterministic"
    assert everything.label == "ISU + CSU + DR"
    ua = everything.params.ua
    assert ua.isu
    assert ua.csu_weight > 0
    assert ua.dr_weight > 0


def test_a_part_that_the_parameters_switch_off_has_its_default_weight() -> None:
    off = plan.changed(tiny(), {"ua.csu_weight": 0.0, "ua.dr_weight": 0.0})
    ablation = variants("ablation", plan.base(off, SIZES))[-1].params.ua
    theta = variants("theta", plan.base(off, SIZES))[0].params.ua
    assert (ablation.csu_weight, ablation.dr_weight) == (0.3, 0.2)
    assert theta.csu_weight == 0.3


def test_variants_that_train_the_same_head_are_listed_once() -> None:
    no_blocks = plan.changed(tiny(), {"ua.n": 0})
    found = variants("ablation", plan.base(no_blocks, SIZES))
    # Without a Gaussian there is nothing to sample: ISU changes nothing.
    assert [v.label for v in found] == ["deterministic head", "DR", "CSU", "CSU + DR"]


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


def test_less_data_has_longer_trainings_within_the_parameters_limits(tmp_path: Path) -> None:
    never = plan.base(plan.changed(tiny(), {"train.patience": 10**6}), SIZES)
    for name in ("scale", "dropout", "scenarios"):
        assert {v.params.train.patience for v in variants(name, never)} == {0}  # canonical
        assert {v.params.train.epochs for v in variants(name, never)} <= {1, round(0.5**-0.5)}
    _, changes = plan.regime(plan.changed(tiny(), {"train.epochs": 60}), 0.1, 0.0)
    assert (changes["train.epochs"], changes["train.patience"]) == (190, 32)
    store = RunStore(tmp_path / "runs", write_source(tmp_path), local(1))
    long = plan.changed(tiny(), {"finetune.epochs": 10000, "study.preset": "quick"})
    with pytest.raises(UserError, match=r"study finetune: a variant's finetune.epochs: .* 10000"):
        study.run_study("finetune", long, {}, store)


def test_every_sigma_is_another_head_where_the_parameters_have_no_block() -> None:
    found = [
        variants("dropout", plan.base(plan.changed(tiny(), {"ua.n": n}), SIZES)) for n in (0, 1)
    ]
    assert found[0] == found[1]
    assert len({v.x["sigma"] for v in found[0] if "sigma" in v.x}) > 1


def test_studies_share_configurations() -> None:
    base = plan.base(tiny(), SIZES)
    all_of = {s: variants(s, base) for s in registry.STUDIES}
    by_label = {s: {v.label: v.params for v in found} for s, found in all_of.items()}
    deterministic = METHODS[DETERMINISTIC].label
    assert by_label["methods"][deterministic] == by_label["ablation"][deterministic]
    assert by_label["theta"][deterministic] == by_label["ablation"][deterministic]
    assert by_label["n"]["n = 1"] == by_label["methods"]["RAU head"]
    for name, found in all_of.items():
        partners = {v.partner or registry.load(name).reference for v in found}
        assert partners <= set(by_label[name])
        assert all(v.params == canonical(v.params) for v in found)


def test_every_method_tries_as_many_and_the_same_common_values() -> None:
    sizes = plan.Plan("smoke", 2, 1, 8)
    base = plan.base(tiny(), sizes)
    tried = {name: plan.trials(name, base, sizes) for name in ("rau", "deterministic", "tirg")}
    assert {len(rows) for rows in tried.values()} == {8}
    for rows in zip(*tried.values(), strict=True):
        common = [{k: v for k, v in row.items() if k in plan.COMMON} for row in rows]
        assert common[0] == common[1] == common[2]
    assert tried["rau"][0] == {}


def test_a_method_with_nothing_to_train_is_tried_once() -> None:
    sizes = plan.Plan("smoke", 2, 1, 6)
    base = plan.base(tiny(), sizes)
    apart = plan.base(plan.changed(tiny(), {"features.source": "own"}), sizes)
    for name, method in METHODS.items():
        head = ComposedHead(small_config(name=name, n=int(method.blocks), isu=False))
        assert method.fixed == (not list(head.parameters()))
        assert len(plan.trials(name, base, sizes)) == (1 if method.fixed else 6)
        assert len(plan.trials(name, apart, sizes)) == 6
    trials = tuning.tune(base, sizes, lambda wanted: [0.0] * len(wanted))
    # Finalists have two more seeds.
    counts = [1 if method.fixed else 6 for method in METHODS.values()]
    assert len(trials) == sum(counts)
    finals = 2 * sum(min(count, tuning.FINALISTS) for count in counts)
    assert sum(len(trial.scores) for trial in trials) == len(trials) + finals


def test_presets_and_what_the_parameters_say() -> None:
    for preset in ("quick", "full"):
        sizes = plan.plan(StudyParams(preset=preset))
        assert sizes.seeds >= 5
    sizes = plan.plan(StudyParams(seeds=7, epochs=3, trials=4))
    assert (sizes.seeds, sizes.epochs, sizes.trials) == (7, 3, 4)
    assert plan.plan(StudyParams(seeds=7)).seeds == 7


def test_runs_share_a_split_only_where_it_is_the_same() -> None:
    data = small_world()
    whole = data.prepared(tiny())
    assert data.prepared(tiny(lr=1e-2)) is whole
    for other in ({"fraction": 0.5}, {"noise": 0.5}, {"holdout": 0.3}):
        assert data.prepared(tiny(**other)).split != whole.split


def test_a_run_is_kept_and_gives_the_same_twice(tmp_path: Path) -> None:
    one, two = (runs.execute(canonical(tiny()), small_world()) for _ in range(2))
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
    result = runs.execute(canonical(wild), small_world())
    runs.save(tmp_path / "run.safetensors", result)
    back = runs.load(tmp_path / "run.safetensors")
    assert back.failure is not None
    assert "not finite in epoch 1" in back.failure
    assert back.summary == {}


def test_trials_of_a_methods_own_do_not_follow_the_common_ones() -> None:
    sizes = plan.Plan("smoke", 2, 1, 400)
    rows = plan.trials("rau", plan.base(tiny(), sizes), sizes)[1:]
    for own in METHODS["rau"].space:
        for common in plan.COMMON:
            seen = {(row[own], row[common]) for row in rows}
            assert len(seen) == len(METHODS["rau"].space[own]) * len(plan.COMMON[common])


def test_the_headlines_protocol_stays_first(tmp_path: Path) -> None:
    params = plan.changed(tiny(), {"evaluate.headline": "val"})
    made = runs.execute(canonical(params), small_world())
    runs.save(tmp_path / "run.safetensors", made)
    back = runs.load(tmp_path / "run.safetensors")
    assert list(back.values) == list(back.clusters) == ["val", "original"]


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
    params = plan.changed(tiny(), {"study.preset": "smoke", "study.epochs": 1})
    monkeypatch.setattr(study, "code_digest", lambda name: f"code of {name}")
    tables = study.run_study("b", params, {}, store)
    assert study.is_current(tables.document, params, {}, store)
    older = tables.document.model_copy(update={"code": ""})
    assert not study.is_current(older, params, {}, store)
    assert set(tables.summary.variant) == {"a"}
    assert tables.runs.set_index("variant").failure.notna().tolist() == [False, False, True, True]
    tables.write(tmp_path / "b")
    assert StudyTables.read(tmp_path / "b").runs.failure.notna().sum() == 2
    with pytest.raises(UserError, match=r"study a: 2 of 4 runs failed, the first with seed 0: not"):
        study.run_study("a", params, {}, store)


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


def write_source(folder: Path) -> runs.Source:
    """The small world as files."""
    import pyarrow as pa

    from rau.features.table import write_features
    from rau.schemas import GALLERIES, QUERIES, write_table

    made = small_world()
    about = {"key": "k", "space": "shared", "encoder": "e", "weights": "w", "preprocess": "p"}
    for kind, column in (("images", "image_id"), ("texts", "text")):
        part = getattr(made.features, kind)
        write_features(folder / f"{kind}.parquet", column, part.names, [part.matrix], about)
    for name, rows, schema in (
        ("queries", made.queries, QUERIES),
        ("galleries", made.galleries, GALLERIES),
    ):
        write_table(
            folder / f"{name}.parquet", pa.Table.from_pylist(list(rows), schema=schema), schema
        )
    images, texts, queries, galleries = (
        folder / f"{name}.parquet" for name in ("images", "texts", "queries", "galleries")
    )
    return runs.Source(images, texts, queries, galleries, "cpu")


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


def test_a_run_of_another_form_is_one_line(tmp_path: Path) -> None:
    save_state(tmp_path / "x.safetensors", {}, {"names": []})
    with pytest.raises(UserError, match=r"x.safetensors: \w+: .*; remove it and run"):
        runs.load(tmp_path / "x.safetensors")


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


def results(shift: float, seed: int) -> list[runs.Result]:
    """Three made-up seeds whose metrics are `shift` higher than at 0."""
    made = []
    for number in range(3):
        rng = np.random.default_rng(number)
        values = rng.normal(size=(80, 2)) * 5 + 40
        own = np.random.default_rng(100 + 10 * seed + number).normal(size=(80, 2)) * 0.1
        statistics: dict[str, float | None] = {
            "epoch": 3,
            "epochs": 5,
            "best_epoch": 3,
            "parameters": 10,
            "seconds": 1.0,
            "sigma_source": 0.5,
            "sigma_target": 0.5,
            "gradient_norm": 1.0,
            "gradient_norm_first": 1.0,
            "gradient_norm_max": 1.0,
            "csu_added_per_row": 3.0,
            "csu_share": 0.5,
            "csu_precision": 0.5,
            "csu_recall": 0.25,
            "alignment_pairs": 0.1,
            "alignment_negatives": 1.0,
            "alignment_closer": 0.9,
        }
        made.append(
            runs.Result(
                {},
                statistics,
                ["mean_of_r10_r50", "recall_at_1", "recall_at_10"],
                {"original": {"dress": np.column_stack([values + shift + own, values[:, 0]])}},
                {"original": {"dress": np.arange(80, dtype=np.int64)}},
                {k: np.full(100, 0.01) for k in ("pairs", "others", "true")},
            )
        )
    return made


def test_lines_pair_variants_and_adjust_for_their_number() -> None:
    made = {"a": results(0, 0), "b": results(0.5, 1), "c": results(0.0, 2)}
    lines = summary.lines(made, {"a": list(made)}).set_index(["variant", "metric"])
    found = {key: lines.loc[key] for key in lines.index}
    assert lines.loc[("a", "recall_at_1"), "difference":].isna().all()
    better, same = found["b", "recall_at_1"], found["c", "recall_at_1"]
    assert better.difference == pytest.approx(0.5, abs=0.05)
    assert better.p < 0.01
    assert better.p_holm == pytest.approx(2 * better.p)
    assert same.p > 0.05
    # The interval of a mean is far wider than that of a difference.
    assert better.high - better.low > 1
    assert found["b", "recall_at_10"].p == 1


def test_rows_say_what_varied() -> None:
    base = plan.base(tiny(), SIZES)
    variant = variants("theta", base)[0]
    row = summary.run_row(variant, 3, "key", results(0, 0)[0])
    assert (row["variant"], row["seed"], row["theta"]) == ("θ = 0.3", 3, 0.3)
    assert row["original.recall_at_1"] == pytest.approx(40, abs=2)


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


def study_tables(name: str = "theta", apart: float = 0.2) -> StudyTables:
    """Made-up tables of a study, each variant's values so far apart from the next one's."""
    reference = registry.load(name).reference
    found = variants(name, plan.base(tiny(), SIZES))
    by_variant = {v.label: results(apart * i, i if apart else 0) for i, v in enumerate(found)}
    lines = summary.lines(by_variant, {reference: list(by_variant)})
    rows = pd.DataFrame(
        [summary.run_row(v, s, "k", r) for v in found for s, r in enumerate(by_variant[v.label])]
    )
    document = StudyDocument(
        study=name,
        seeds=3,
        preset="smoke",
        reference=reference,
        variants=[VariantRecord(label=v.label, x=dict(v.x), params="k") for v in found],
        diagnostics={
            v.label: [summary.seed_diagnostics(v, r, None) for r in by_variant[v.label]]
            for v in found
        },
        cosines=summary.mean_cosines(by_variant),
    )
    return StudyTables(rows, lines, document)


def test_the_rank_correlation_of_holdout_and_val_is_over_the_variants() -> None:
    val = [10.0, 12.0, 20.0, 18.0]
    held = [1.0, 2.0, 3.0, 4.0]
    rows = [
        {"variant": f"v{n}", "seed": seed, "holdout_map": h + seed, "original.map": v - 5 * seed}
        for n, (h, v) in enumerate(zip(held, val, strict=True))
        for seed in range(2)
    ]
    tables = replace(study_tables(), runs=pd.DataFrame(rows))
    # Ranks 1, 2, 3, 4 and 1, 2, 4, 3; those of single runs would be others.
    assert holdout.rank_correlation(tables) == pytest.approx(0.8)
    assert holdout.said(tables).endswith("over 4 variants: 0.80")
    assert holdout.said(tables) in study_page.trained(tables)
    for fewer in (tables.runs[tables.runs.variant != "v0"], tables.runs.assign(holdout_map=1.0)):
        assert holdout.said(replace(tables, runs=fewer)) == ""
    other = tables.runs.rename(columns={"original.map": "original.recall_at_1"})
    assert holdout.rank_correlation(replace(tables, runs=other)) is None


def test_an_answer_says_which_variants_kept_their_start() -> None:
    made = study_tables("n", apart=0.5)
    assert answers.differing(made).startswith("Of 2, 2 better: n = 1 (+0.5")
    assert "its start kept" not in answers.differing(made)
    kept = made.runs.assign(best_epoch=made.runs.best_epoch.where(made.runs.variant != "n = 2", 0))
    told = answers.differing(replace(made, runs=kept))
    assert told.count("its start kept") == 1
    assert told.endswith("its start kept)")
    one_run = kept.index == kept.index[kept.variant == "n = 2"][0]
    trained = kept.assign(best_epoch=kept.best_epoch.mask(one_run, 4))
    assert "its start kept" not in answers.differing(replace(made, runs=trained))


def test_variants_at_one_point_of_a_figure_are_named_together() -> None:
    for apart, names in ((0.0, ["n = 0, n = 1, n = 2"]), (0.2, ["n = 0", "n = 1", "n = 2"])):
        made = study_tables("n", apart)
        deep = made.summary.replace("recall_at_10", "recall_at_50")
        figure = registry.load("n").figure(replace(made, summary=deep))
        assert [text.get_text() for text in figure.axes[0].texts] == names


def test_a_figure_of_the_values_of_the_plots_is_left_out() -> None:
    tables = study_tables()
    same = replace(tables, document=tables.document.model_copy(update={"study": "ablation"}))
    section = study_page.section(same, registry.load("ablation").figure(same), None)
    text = study_page.render({}, [section])
    assert "data:image" not in text
    assert section["plots"][0].svg in text


def test_tables_round_trip_and_damage(tmp_path: Path) -> None:
    made = study_tables()
    made.write(tmp_path / "theta")
    read = StudyTables.read(tmp_path / "theta")
    assert read.document == made.document
    pd.testing.assert_frame_equal(read.runs, made.runs)
    document = json.loads((tmp_path / "theta/study.json").read_text())
    (tmp_path / "theta/study.json").write_text(json.dumps(document | {"seeds": "three"}))
    with pytest.raises(UserError, match=r"seeds: .*; run `python -m pipeline.study theta` again"):
        StudyTables.read(tmp_path / "theta")


def test_page_stands_alone_and_shows_every_variant() -> None:
    tables = study_tables()
    figure = registry.load("theta").figure(tables)
    assert len(figure.axes) >= 5
    section = study_page.section(tables, figure, None)
    costs = grid.costs(tables)
    assert {(costs.header[-1], row[-1]) for row in costs.rows} == {("kept epoch", "3")}
    section |= {"title": "θ<b>", "grids": {**section["grids"], "costs": costs}}
    text = study_page.render({"data": "d<script>"}, [section])
    links = Links()
    links.feed(text)
    assert all(link.startswith(("data:", "#")) for link in links.loaded)
    assert text.count("<script>") == 1
    assert "θ<b>" not in text
    for variant in tables.document.variants:
        assert variant.label in links.text
    for plot, protocol in zip(section["plots"], section["tables"], strict=True):
        for name, shown, *_ in plot.rows:
            cell = section["tables"][protocol][name]["mean_of_r10_r50"]
            assert shown == signed(cell.difference)
            assert f"{name}: {shown} [" in plot.svg.unescape()
    assert text.count("data:image/svg+xml;base64,") == 1
    assert "CSU flooded 3/3" in links.text
    assert "reference: deterministic head; longest training 5 epochs" in links.text
    stars = [mark(p) for p in tables.summary.p_holm.dropna()]
    assert {"***", ""} <= {*stars}
    assert sorted(re.findall(r"\](\**)</small></td>", text)) == sorted(
        [*stars, *[""] * int(tables.summary.p_holm.isna().sum())]
    )
    assert "50.0%" in links.text


def test_the_page_says_what_a_study_trained() -> None:
    tables = study_tables()
    assert study_page.trained(tables) == "longest training 5 epochs"
    tables.runs.loc[0, "epochs"] = 190
    along = replace(tables, document=tables.document.model_copy(update={"study": "finetune"}))
    assert study_page.trained(along) == (
        "longest training 190 epochs; every run trains an encoder, from that of `data/encoder`"
    )


def test_page_says_what_the_tuning_chose() -> None:
    rows = [
        {"method": "rau", "chosen": False, "first": 3.0, "mean": 3.0, "changes": "{}"},
        {"method": "rau", "chosen": True, "first": 4.0, "mean": 3.5, "changes": '{"ua.n": 2}'},
        {"method": "sum", "chosen": True, "first": 1.0, "mean": 1.0, "changes": "{}"},
    ]
    assert study_page.trials(pd.DataFrame(rows)).rows == [
        ["RAU head", "2", "3.00", "4.00", "3.50", "ua.n=2"],
        ["sum", "1", "1.00", "1.00", "1.00", "none"],
    ]
