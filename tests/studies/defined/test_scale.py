"""Gain by the size of the data and of the gallery."""

from dataclasses import replace

import numpy as np
import pytest

from rau.report.numbers import minus
from rau.studies import (
    plan,
)
from rau.studies.defined import scale
from tests.studies.synthetic import results, study_tables, tiny


def test_scale_answers_by_the_headline_or_by_what_a_grown_gallery_has() -> None:
    made = {name: results(shift, 0) for name, shift in (("deterministic", 0), ("rau", 1))}
    found, by_label = [], {}
    for fraction in (1.0, 0.5):
        for name, own in made.items():
            label = f"{name} {fraction}"
            found.append(plan.Variant(label, tiny(), {"fraction": fraction, "method": name}))
            by_label[label] = own
    for name, one in ((name, one) for name, own in made.items() for one in own):
        one.names[:] = ["mean_of_r5_rs1", "recall_at_1", "mean_of_r10_r50"]
        lost = -2.0 if name == "rau" else 0.0
        one.extra["growing/factors"] = np.array([1.0, 2.0])
        one.extra["growing/values/dress"] = np.stack([np.ones((80, 2)), np.full((80, 2), lost)])
        one.extra["kinds/caption/dress"] = np.zeros(80, np.int64)
        one.extra["kinds/answers/dress"] = np.ones(80, np.int64)
    tables = study_tables()
    tables.summary["metric"] = "mean_of_r5_rs1"
    whole = replace(tables, own=scale.own(found, by_label))
    first, second = scale.answer(whole).split("; ")
    assert first.startswith("0.00 [0.00, 0.00] points of mean of R@5 and Rs@1 a doubling of the tr")
    # RAU loses more: its slope falls faster, so the difference is negative.
    assert second == minus(
        "-1.00 [-1.00, -1.00] points of mean of R@10 and R@50 a doubling of the gallery, RAU's "
        "minus these -2.00 [-2.00, -2.00]"
    )
    (grid, *_) = scale.grids(whole).values()
    assert grid.header[-1] == "difference"
    assert [row[-1] for row in grid.rows][-1] == "-2.00 [-2.00, -2.00]"


def test_slope_is_points_per_doubling() -> None:
    x = np.array([1.0, 2.0, 4.0])
    means = np.array([10.0, 13.0, 16.0])
    slope = scale._slope(x, means, np.stack([means, means]))
    assert slope == pytest.approx((3.0, 3.0, 3.0))
