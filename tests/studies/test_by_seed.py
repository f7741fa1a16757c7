"""Numbers of runs, paired by seed."""

import numpy as np
import pytest

from rau.studies import (
    by_seed,
)


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
