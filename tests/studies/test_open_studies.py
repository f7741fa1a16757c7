"""Studies with tables of their own: what they measure, how they judge it, and that each runs."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from rau.datasets.garments.captions import ORDER_PHRASES
from rau.models.config import canonical
from rau.params import Params
from rau.report.numbers import minus
from rau.retrieval.protocols import select
from rau.studies import (
    breakdown,
    by_seed,
    confidence_tables,
    costs,
    distances,
    findings,
    galleries,
    grid,
    plan,
    registry,
    runs,
    study,
    study_page,
    summary,
)
from rau.studies.defined import cost, distributions, dropout, scale, scenarios
from rau.studies.local_workers import LocalWorkers
from rau.studies.run_store import RunStore
from rau.studies.tables import StudyTables
from rau.training import fit
from rau.training.pair_distances import gaussian, outputs
from tests.nn.test_gaussian import make
from tests.studies.test_studies import results, small_world, study_tables, tiny, write_source

OPEN = ("distributions", "regularisers", "scale", "dropout", "scenarios", "calibration", "cost")
DONE: dict[str, runs.Result] = {}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runs.Source]:
    """The small world; what runs once is kept for the module."""
    torch.set_num_threads(1)
    yield write_source(tmp_path_factory.mktemp("world"))
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
    assert study.is_current(tables.document, params, {}, store)
    assert not study.is_current(tables.document, plan.changed(params, {"train.lr": 0.5}), {}, store)
    partners = {v.partner or found.reference for v in tables.document.variants}
    assert partners <= {v.label for v in tables.document.variants}


def trained(**train: Any) -> runs.Trained:
    """A head after an epoch on the small world."""
    params, data = canonical(tiny(**train)), small_world()
    prepared = data.prepared(params)
    protocol = select("fashioniq", params.evaluate)[0]
    head = fit.fit(params, data.features, prepared, None, quiet=True).head
    return runs.Trained(params, head, data, prepared, protocol)


def test_more_images_leave_the_first_ones_where_they_were_and_only_cost() -> None:
    one = trained()
    taken = {row["image_id"] for row in one.data.galleries}
    names = [name for name in one.data.features.images.names if name not in taken]
    one.data.listed = {key: [*names, *taken] for key in ("dress", "shirt")}
    found = galleries.growing(one)
    (category,) = {task.category for task in one.data.tasks(one.protocol)}
    values, images = found[f"values/{category}"], found[f"images/{category}"]
    assert found["factors"].tolist() == [1.0, 1.5, 2.0, 3.0, 5.0]
    assert images[0] == 24
    assert images[-1] == 5 * 24
    result = runs.execute(one.params, one.data)
    place = [result.names.index(name) for name in galleries.METRICS]
    own = result.values[one.protocol.name][category][:, place]
    np.testing.assert_allclose(values[0], own, rtol=1e-5)
    assert (np.diff(values, axis=0) <= 1e-4).all()
    assert values[-1].mean() < values[0].mean()


def test_distances_are_those_of_the_gaussians_pair_by_pair() -> None:
    left, right = make(0, 4, 3), make(1, 4, 3)
    found = distances._distances(left, right)
    for row in range(4):
        moved = type(right)(right.mean.roll(row, 0), right.log_var.roll(row, 0))
        expected = left.wasserstein2(moved)
        for i in range(4):
            assert found[i, (i - row) % 4] == pytest.approx(float(expected[i]))


def test_effective_rank_and_uniformity_of_known_points() -> None:
    corners = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
    assert distances._effective_rank(corners) == pytest.approx(2)
    assert distances._effective_rank(corners * torch.tensor([1.0, 0, 0])) == pytest.approx(1)
    near, far = np.exp(-2 * 2.0), np.exp(-2 * 4.0)
    assert distances._uniformity(corners) == pytest.approx(np.log((4 * near + 2 * far) / 6))


def test_spread_counts_every_pair_once() -> None:
    one = trained()
    found = distances.spread(one)
    numbers = dict(zip(distances.NUMBERS, found["numbers"], strict=True))
    (task,) = one.data.tasks(one.protocol)
    source, goal, target = outputs(one.head, task, one.data.features)
    left, right = gaussian(source), gaussian(goal)
    pairs, negatives, closer = [], [], []
    for row, own in enumerate(target.tolist()):
        gaps = [
            float((left.mean[row] - right.mean[other]).square().sum())
            + float((left.sigma[row] - right.sigma[other]).square().sum())
            for other in range(len(target))
        ]
        wrong = [gap for gap, other in zip(gaps, target.tolist(), strict=True) if other != own]
        pairs.append(gaps[row])
        negatives += wrong
        closer.append(np.mean([gap > gaps[row] for gap in wrong]))
    shares = [np.histogram(v, distances.EDGES)[0] / len(v) for v in (pairs, negatives)]
    for name, expected in zip(("pairs", "negatives"), shares, strict=True):
        np.testing.assert_allclose(found[f"histogram_{name}"], expected, atol=1e-12)
    assert 0.1 < numbers["overlap"] < 1
    assert numbers["overlap"] == pytest.approx(np.minimum(*shares).sum())
    assert numbers["closer"] == pytest.approx(np.mean(closer))
    assert numbers["pairs"] == pytest.approx(np.mean(pairs), rel=1e-4)
    assert numbers["negatives"] == pytest.approx(np.mean(negatives), rel=1e-4)
    assert numbers["alignment"] <= numbers["pairs"]
    assert {0, 1, 3} <= set(found["plane_kind"])


def changes(relative: float, rank: float, uniformity: float, half: float = 0.01) -> pd.DataFrame:
    rows = dict(zip(distributions.RATES, (relative, rank, uniformity), strict=True))
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["mean"])
    return table.assign(low=table["mean"] - half, high=table["mean"] + half)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (changes(-0.2, 0.0, 0.0), "aligned"),
        (changes(-0.04, 0.0, 0.0), "neither"),
        (changes(-0.2, 0.0, 0.0, half=0.3), "neither"),
        (changes(-0.2, -0.2, 0.0), "oversmoothed"),
        (changes(0.2, 0.0, 0.2), "oversmoothed"),
        (changes(0.2, 0.1, -0.2), "neither"),
    ],
)
def test_verdict_by_its_thresholds(found: pd.DataFrame, expected: str) -> None:
    assert distributions.verdict(found) == expected


def test_numbers_of_runs_are_paired_by_seed() -> None:
    base = np.array([[1.0], [5.0], [9.0]])
    step = np.array([[0.9], [1.0], [1.1]])
    table = by_seed.paired({"a": base, "b": base + step}, ["x"], {"a": "a", "b": "a"})
    first, second = table.to_dict("records")
    assert np.isnan(first["difference"])
    # Student's t with two degrees of freedom: 4.3027 standard errors.
    half = 4.3027 * 0.1 / np.sqrt(3)
    assert second["difference_low"] == pytest.approx(1 - half, abs=1e-4)
    assert second["difference_high"] == pytest.approx(1 + half, abs=1e-4)
    assert second["p"] == second["p_holm"] == pytest.approx(0.0033, abs=1e-4)
    assert second["low"] < 6 < second["high"]
    grid = by_seed.grid(table, {"x": ("X", "{:.1f}")}, "note")
    assert grid.rows == [["a", "5.0"], ["b", "6.0; +1.0 [+0.8, +1.2]**"]]


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_numbers_without_a_difference_are_rarely_starred(seeds: int) -> None:
    rng, names = np.random.default_rng(0), [str(number) for number in range(4000)]
    sides = {"a": rng.normal(size=(seeds, 4000)), "b": rng.normal(size=(seeds, 4000))}
    p = by_seed.paired(sides, names, {"a": "a", "b": "a"}).p.dropna()
    for level in (0.05, 0.01):
        assert (p < level).mean() == pytest.approx(level, rel=0.3)
    assert (p < 0.001).mean() < 0.003


def test_one_seed_and_unknown_numbers_have_no_interval_and_no_stars() -> None:
    values = np.array([[5.0, np.nan]])
    table = by_seed.paired({"a": values, "b": values + 1e-4}, ["x", "y"], {"a": "a", "b": "a"})
    assert table[["low", "difference_high", "p", "p_holm"]].isna().all(axis=None)
    forms = {"x": ("X", "{:.4f}"), "y": ("Y", "{:.1f}")}
    assert by_seed.grid(table, forms, "").rows[1] == ["b", "5.0001; +0.0001", "–"]
    base = np.ones((3, 1))
    same = by_seed.paired({"a": base, "b": base}, ["x"], {"a": "a", "b": "a"})
    assert by_seed.grid(same, {"x": ("X", "{:.0f}")}, "").rows[1] == ["b", "1; +0 [+0, +0]"]


@pytest.mark.parametrize(
    ("captions", "kind"),
    [
        (["is red", "has a v neck"], "one change"),
        (["is red and has a v neck", "is long"], "two changes"),
        (["is longer", "this one has more color."], "vague"),
        (["is longer", "is red"], "one change"),
        (["has a collar", "is leather"], "one change"),
    ],
)
def test_what_captions_say(captions: list[str], kind: str) -> None:
    assert breakdown.KINDS[breakdown.caption_kind(captions)] == kind


def test_every_comparison_of_garments_is_vague() -> None:
    phrases = [p for sides in ORDER_PHRASES.values() for side in sides for p in side]
    assert {breakdown.caption_kind([phrase]) for phrase in phrases} == {2}


def test_groups_of_queries_have_their_own_means() -> None:
    made, better = results(0, 0), results(0, 0)
    for number, one in enumerate([*made, *better]):
        one.extra["kinds/caption/dress"] = np.arange(80) % 3
        one.extra["kinds/answers/dress"] = np.where(np.arange(80) < 40, 1, 5)
        if number >= 3:
            one.values["original"]["dress"][:40] += 2
    pair = [plan.Variant(name, tiny(), {}) for name in ("a", "b")]
    table = breakdown.table(pair, {"a": made, "b": better}, "a", "recall_at_1")
    own = table[table.variant == "b"].set_index("group")
    assert own.queries.to_dict() == {
        "one change": 27,
        "two changes": 27,
        "vague": 26,
        "1 true answer": 40,
        "4 to 10 true answers": 40,
    }
    assert own.difference["1 true answer"] == pytest.approx(2)
    assert own.difference["4 to 10 true answers"] == pytest.approx(0)


def test_scale_answers_by_the_headline_or_by_what_a_grown_gallery_has() -> None:
    made = {name: results(shift, 0) for name, shift in (("deterministic", 0), ("rau", 1))}
    found, by_label = [], {}
    for fraction in (1.0, 0.5):
        for name, own in made.items():
            label = f"{name} {fraction}"
            found.append(plan.Variant(label, tiny(), {"fraction": fraction, "method": name}))
            by_label[label] = own
    for one in (one for own in made.values() for one in own):
        one.names[:] = ["mean_of_r5_rs1", "recall_at_1", "mean_of_r10_r50"]
        one.extra["growing/factors"] = np.array([1.0, 2.0])
        one.extra["growing/values/dress"] = np.stack([np.ones((80, 2)), np.zeros((80, 2))])
        one.extra["kinds/caption/dress"] = np.zeros(80, np.int64)
        one.extra["kinds/answers/dress"] = np.ones(80, np.int64)
    tables = study_tables()
    tables.summary["metric"] = "mean_of_r5_rs1"
    told = scale.answer(replace(tables, own=scale.own(found, by_label)))
    first, second = told.split("; ")
    assert first.startswith("0.00 [0.00, 0.00] points of mean of R@5 and Rs@1 a doubling of the tr")
    whole = "-1.00 [-1.00, -1.00] points of mean of R@10 and R@50 a doubling of the gallery, RAU"
    assert second.startswith(minus(whole))


def test_slope_is_points_per_doubling() -> None:
    x = np.array([1.0, 2.0, 4.0])
    means = np.array([10.0, 13.0, 16.0])
    slope = scale._slope(x, means, np.stack([means, means]))
    assert slope == pytest.approx((3.0, 3.0, 3.0))


def test_dropout_is_chosen_on_the_holdout_and_a_wrong_one_costs() -> None:
    shifts = {(0.3, 0.0): -4.0, (0.7, 0.0): 0.0, (0.3, 0.6): -1.0, (0.7, 0.6): 0.0}
    variants, found = [], {}
    for (share, sigma), shift in shifts.items():
        x = {"fraction": 0.1, "noise": 0.0, "dropout": share, "sigma": sigma}
        variants.append(plan.Variant(f"{share} {sigma}", tiny(), x))
        made = results(shift, 0)
        for one in made:
            one.params["train.select"] = "map"
            # The holdout errs on the deterministic head.
            one.summary["holdout_map"] = shift if sigma else -shift
        found[variants[-1].label] = made
    x = {"fraction": 0.1, "noise": 0.0}
    variants.append(plan.Variant("sum", tiny(), x))
    found["sum"] = results(2.5, 0)
    for one in found["sum"]:
        one.params["train.select"] = "map"
        one.summary["holdout_map"] = 0.0
    tables = dropout.own(variants, found)
    assert tables["untrained"].difference.tolist() == [pytest.approx(6.5)]
    own = tables["tuned"].set_index("sigma")
    assert own.dropout.to_dict() == {0.0: 0.3, 0.6: 0.7}
    assert own.difference[0.6] == pytest.approx(4)
    assert own.loss[0.6] == pytest.approx(1)
    # What is worst on the holdout is not worst on val.
    assert own.loss[0.0] == pytest.approx(-4)


def test_the_answer_to_dropout_says_where_no_head_left_its_start() -> None:
    def row(sigma: float, mean: float, gap: float, holdout: float = 0.0) -> dict[str, float]:
        ends = {f"{name}{end}": gap for name in ("difference", "flatter") for end in grid.ENDS}
        return {"sigma": sigma, "mean": mean, "holdout": holdout, **ends}

    untrained = row(0.0, 5.0, -1.5)
    kept = dropout._told([row(0.0, 5.0, 0.0), row(0.6, 5.0, 0.0)], untrained)
    assert kept == "every head kept the weighted sum that it starts as"
    # The σ that the holdout chose, not the one that is best on val.
    heads = [row(0.0, 6.0, 0.0), row(0.6, 6.5, 0.5, holdout=2.0), row(1.2, 6.75, 0.75, holdout=1.0)]
    assert dropout._told(heads, untrained).startswith(
        "ISU +0.50 [+0.50, +0.50] at its own dropout (σ 0.6), the untrained weighted sum -1.50 ["
    )


def test_the_map_says_what_is_clear() -> None:
    table = pd.DataFrame(
        {
            "setting": ["θ 0.6", "n 2", "n 0"],
            "fraction": 1.0,
            "noise": 0.0,
            "difference": [0.5, -1.0, 2.0],
            "low": [-0.1, -2.0, 1.0],
            "high": [1.0, -0.5, 3.0],
            "says": ["", "hurts", "helps"],
        }
    )
    (row,) = scenarios.rule(table).rows
    assert row[1:3] == ["n 0", "n 2"]
