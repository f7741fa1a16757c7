"""Rows of the tables: means, paired differences, what varied."""

from typing import Any

import pytest

from rau.studies import (
    plan,
    summary,
)
from tests.studies.synthetic import SIZES, results, tiny, variants


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


@pytest.mark.parametrize(
    ("changes", "read"),
    [
        ({"head.name": "rau"}, (0.8, None, 1)),
        ({"head.name": "rau", "ua.theta_quantile": 0.99, "ua.n": 2}, (None, 0.99, 2)),
        ({"head.name": "deterministic"}, (None, None, 1)),
        ({"head.name": "combiner"}, (None, None, None)),
    ],
)
def test_rows_have_the_theta_and_n_that_the_method_reads(
    changes: dict[str, Any], read: tuple[float | None, ...]
) -> None:
    row = summary.run_row(plan.variant("x", tiny(), changes), 0, "key", results(0, 0)[0])
    assert (row["theta"], row["theta_quantile"], row["n"]) == read
