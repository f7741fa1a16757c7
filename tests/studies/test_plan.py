"""Variants that are what they say, presets, and what tuning may try."""

from pathlib import Path

import pytest

from rau.errors import UserError
from rau.methods import DETERMINISTIC, METHODS
from rau.models.config import canonical
from rau.models.head import ComposedHead
from rau.params import StudyParams
from rau.studies import (
    plan,
    registry,
    study,
    tuning,
)
from rau.studies.run_store import RunStore
from tests.heads import small_config
from tests.studies.synthetic import SIZES, local, tiny, variants, write_source


def test_variants_that_train_the_same_head_are_listed_once() -> None:
    no_blocks = plan.changed(tiny(), {"ua.n": 0})
    found = variants("ablation", plan.base(no_blocks, SIZES))
    # Without a Gaussian there is nothing to sample: ISU changes nothing.
    assert [v.label for v in found] == ["deterministic head", "DR", "CSU", "CSU + DR"]


def test_less_data_has_longer_trainings_within_the_parameters_limits(tmp_path: Path) -> None:
    never = plan.base(plan.changed(tiny(), {"train.patience": 10**6}), SIZES)
    for name in ("scale", "dropout", "scenarios"):
        assert {v.params.train.patience for v in variants(name, never)} == {0}  # canonical
        assert {v.params.train.epochs for v in variants(name, never)} <= {1, round(0.5**-0.5)}
    _, changes = plan.regime(plan.changed(tiny(), {"train.epochs": 60}), 0.1, 0.0)
    assert (changes["train.epochs"], changes["train.patience"]) == (190, 32)
    store = RunStore(tmp_path / "runs", write_source(tmp_path), local(1))
    tuned = {"finetune.towers": "both", "finetune.epochs": 10000}
    long = plan.changed(tiny(), {**tuned, "study.preset": "quick"})
    with pytest.raises(UserError, match=r"study finetune: a variant's finetune.epochs: .* 10000"):
        study.run_study("finetune", long, {}, store)


def test_heads_on_a_fine_tuned_encoder_are_not_compared_with_fewer_queries_than_it_has_seen() -> (
    None
):
    frozen, tuned = (
        plan.base(plan.changed(tiny(), {"finetune.towers": towers}), SIZES)
        for towers in ("none", "both")
    )
    for name in ("scale", "dropout", "scenarios"):
        places = [{(v.x["fraction"], v.x["noise"]) for v in variants(name, frozen)}]
        places.append({(v.x["fraction"], v.x["noise"]) for v in variants(name, tuned)})
        assert places[0] - {plan.WHOLE}
        assert places[1] == {plan.WHOLE}


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


def test_trials_of_a_methods_own_do_not_follow_the_common_ones() -> None:
    sizes = plan.Plan("smoke", 2, 1, 400)
    rows = plan.trials("rau", plan.base(tiny(), sizes), sizes)[1:]
    for own in METHODS["rau"].space:
        for common in plan.COMMON:
            seen = {(row[own], row[common]) for row in rows}
            assert len(seen) == len(METHODS["rau"].space[own]) * len(plan.COMMON[common])
