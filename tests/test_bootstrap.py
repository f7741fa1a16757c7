"""Intervals against a slow loop and against the normal approximation."""

import numpy as np
import pytest

from rau.bootstrap import MEAN, intervals


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
