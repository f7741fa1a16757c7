"""Intervals against a slow loop and against the normal approximation."""

import numpy as np
import pytest

from rau.evaluation.bootstrap import MEAN, differences, holm, intervals
from rau.report.html import mark


def one(
    values: np.ndarray, clusters: np.ndarray | None = None, **options: int
) -> tuple[float, float]:
    rows = np.arange(len(values)) if clusters is None else clusters
    settings = {"resamples": 2000, "seed": 0} | options
    low, high = intervals({"a": values[:, None]}, {"a": rows}, **settings)["a"]
    return float(low[0]), float(high[0])


def test_normal_approximation_of_a_share() -> None:
    values = np.repeat([0.0, 100.0], [700, 300])
    low, high = one(values)
    spread = 1.96 * np.sqrt(0.3 * 0.7 / 1000) * 100
    assert (low, high) == pytest.approx((30 - spread, 30 + spread), abs=0.25)


def test_agrees_with_drawing_rows_one_by_one() -> None:
    rng = np.random.default_rng(3)
    values = rng.exponential(10, 200)
    means = [values[rng.integers(0, 200, 200)].mean() for _ in range(2000)]
    assert one(values) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), rel=0.03)


def test_rows_of_a_query_go_together() -> None:
    half = np.repeat([0.0, 100.0], 200)
    rows = np.concatenate([half, half])
    apart, together = one(rows), one(rows, np.tile(np.arange(400), 2))
    assert together[1] - together[0] > 1.3 * (apart[1] - apart[0])
    assert together == pytest.approx(one(half), abs=0.5)


def test_mean_over_categories_is_stratified() -> None:
    sure, unsure = np.full((300, 1), 50.0), np.repeat([0.0, 100.0], 150)[:, None]
    numbers = np.arange(300)
    found = intervals({"a": sure, "b": unsure}, {"a": numbers, "b": numbers}, 2000, 0)
    width = {name: float(high[0] - low[0]) for name, (low, high) in found.items()}
    assert width["a"] == 0
    assert width[MEAN] == pytest.approx(width["b"] / 2, rel=0.1)


def test_seed_decides_and_none_is_none() -> None:
    values = np.arange(50.0)
    assert one(values, seed=1) == one(values, seed=1) != one(values, seed=2)
    assert intervals({"a": values[:, None]}, {"a": np.arange(50)}, 0, 0) == {}


def test_seeds_are_drawn_with_queries_as_a_slow_loop_does() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(4, 60, 2)) + rng.normal(size=(4, 1, 2))
    low, high = intervals({"a": values}, {"a": np.arange(60)}, 4000, 0)["a"]
    slow = []
    for _ in range(4000):
        means = values[:, rng.integers(0, 60, 60)].mean(1)
        drawn = means[rng.integers(0, 4, 4)].mean(0)
        # Four seeds show three quarters of their variance.
        slow.append(means.mean(0) + (drawn - means.mean(0)) * np.sqrt(4 / 3))
    expected = np.quantile(slow, [0.025, 0.975], axis=0)
    np.testing.assert_allclose([low, high], expected, atol=0.08)
    alone, _ = intervals({"a": values[:1]}, {"a": np.arange(60)}, 4000, 0)["a"]
    assert high[0] - low[0] > 1.5 * 2 * (values[0, :, 0].mean() - alone[0])


def test_seeds_are_the_same_in_every_category() -> None:
    # All chance is the seeds': were they drawn apart, the mean's interval would be narrower.
    shift = np.array([0.0, 1.0, 2.0, 3.0])[:, None, None]
    values = {name: np.zeros((4, 30, 1)) + shift for name in ("a", "b", "c")}
    rows = {name: np.arange(30) for name in values}
    found = intervals(values, rows, 2000, 0)
    assert found[MEAN][0] == pytest.approx(found["a"][0])
    assert found[MEAN][1] == pytest.approx(found["a"][1])


def test_pairs_find_what_intervals_apart_do_not() -> None:
    rng = np.random.default_rng(2)
    theirs = rng.normal(size=(300, 1)) * 10
    ours = theirs + 0.3 + rng.normal(size=(300, 1))
    rows = {"a": np.arange(300)}
    (found,) = differences({"a": ours}, {"a": theirs}, rows, 2000, 0)["a"]
    assert found.value == pytest.approx(float((ours - theirs).mean()))
    assert 0 < found.low < found.value < found.high
    assert found.p < 0.01
    apart = [intervals({"a": side}, rows, 2000, 0)["a"] for side in (ours, theirs)]
    assert apart[0][0] < apart[1][1]
    (back,) = differences({"a": theirs}, {"a": ours}, rows, 2000, 0)["a"]
    assert back.value == pytest.approx(-found.value)
    assert back.high == pytest.approx(-found.low)


def test_no_difference_has_p_one_and_false_alarms_are_rare() -> None:
    same = np.ones((5, 20, 1))
    rows = {"a": np.arange(20)}
    (none,) = differences({"a": same}, {"a": same}, rows, 100, 0)["a"]
    assert (none.value, none.low, none.high, none.p) == (0, 0, 0, 1)
    alarms = 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        gap = rng.normal(size=(100, 1))
        (found,) = differences(
            {"a": gap}, {"a": np.zeros((100, 1))}, {"a": np.arange(100)}, 400, 0
        )["a"]
        alarms += found.p < 0.05
    assert 2 <= alarms <= 20


@pytest.mark.parametrize(("seed_spread", "most"), [(0.0, 0.07), (0.5, 0.09), (5.0, 0.19)])
def test_false_alarms_of_five_seeds(seed_spread: float, most: float) -> None:
    """Near nominal while queries are most of the chance, too many where seeds are all of it."""
    alarms = []
    for trial in range(300):
        rng = np.random.default_rng(trial)
        gap = rng.normal(size=(5, 200, 1)) * 5 + rng.normal(size=(5, 1, 1)) * seed_spread
        rows = {"a": np.arange(200)}
        (found,) = differences({"a": gap}, {"a": 0 * gap}, rows, 400, 0)["a"]
        alarms.append(found.p < 0.05)
    assert np.mean(alarms) <= most


def test_sides_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="different categories, rows or metrics"):
        differences({"a": np.ones((3, 1))}, {"a": np.ones((4, 1))}, {"a": np.arange(3)}, 10, 0)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert [mark(p) for p in (0.2, 0.04, 0.004, 0.0004)] == ["", "*", "**", "***"]
