"""Every plotted value stands in the plot's text, on hover, and in its table."""

from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pyarrow as pa
import pytest

from rau.report import run_plots
from rau.report.html import mark
from rau.report.svg import Plot, Point, Series, curves, forest
from rau.schemas import RANKINGS
from tests.report.test_report import document, metrics

SVG = "{http://www.w3.org/2000/svg}"


def titles(plot: Plot) -> list[str]:
    """What is shown on hover."""
    root = ET.fromstring(plot.file())
    assert root.get("aria-label") == plot.title
    return [one.text or "" for one in root.iter(f"{SVG}title")]


def places(plot: Plot, axis: str) -> list[float]:
    root = ET.fromstring(plot.file())
    return [float(one.get(f"c{axis}", "")) for one in root.iter(f"{SVG}circle")]


def test_forest_has_the_values_of_the_metrics() -> None:
    plot = run_plots.methods(metrics(), "original", "recall_at_10")
    assert titles(plot) == ["image only: 41.25 [39.00, 43.00]", "RAU head: 41.25 [39.00, 43.00]"]
    assert plot.rows[1] == ("RAU head", "41.25", "[39.00, 43.00]")
    against = run_plots.differences(metrics(), "original", ["recall_at_1", "recall_at_10"])
    assert against is not None
    assert titles(against)[1] == f"R@10: -0.75 [-1.50, -0.10] {mark(0.004)}"
    assert against.rows[1] == ("R@10", "-0.75", "[-1.50, -0.10]", "0.0040")
    assert run_plots.differences(metrics(against={}), "original", ["recall_at_1"]) is None


@pytest.mark.parametrize("far", [-3.0, -60.0])  # Linear, and logarithmic beyond two.
def test_marks_lie_in_the_order_of_their_values(far: float) -> None:
    values = [0.5, far, 2.0, 0.0]
    plot = forest("a <b> & c", [Point(f"{v}", v, (v - 1, v + 1)) for v in values], "points", True)
    x = places(plot, "x")
    assert np.argsort(x).tolist() == np.argsort(values).tolist()
    assert all(0 <= place <= 400 for place in x)
    zero = ET.fromstring(plot.file()).find(f"{SVG}line[@class='zero']")
    assert zero is not None
    assert float(zero.get("x1", "")) == x[3]


def test_curves_leave_out_what_is_not_known_and_thin_long_ones() -> None:
    plot = curves("t", [Series("a", [1, 2, 3], [1.0, np.nan, 3.5])], "epoch", "loss")
    assert titles(plot) == ["a, epoch 1: 1.00", "a, epoch 3: 3.50"]
    assert [row[1] for row in plot.rows] == ["1.00", "–", "3.50"]
    long = curves("t", [Series("a", range(1000), [float(n) for n in range(1000)])], "x", "y")
    assert len(titles(long)) == len(long.rows) == 100
    assert places(curves("t", [Series("a", [1], [np.nan])], "x", "y"), "x") == []


@pytest.mark.parametrize(
    ("unusable", "expected"),
    [("miss", ["25.00", "50.00", "75.00"]), ("leave_out", ["25.00", "75.00", "100.00"])],
)
def test_recall_at_k_is_that_of_the_ranks(unusable: str, expected: list[str]) -> None:
    # The last query's images are missing: it has neither a rank nor a list.
    ranks = [("dress", 1), ("dress", 60), ("shirt", 5), ("shirt", None)]
    empty: dict[str, Any] = dict.fromkeys(RANKINGS.names) | {"scores": [], "top": []}
    empty |= dict.fromkeys(("query_id", "text", "reference_id"), "q")
    empty |= {"method": "RAU head", "protocol": "original"}
    rows = [
        empty | {"category": category, "target_rank": rank, "top": ["i"] if rank else []}
        for category, rank in ranks
    ]
    found = metrics(coverage=document()["coverage"] | {"unusable": unusable})
    plot = run_plots.recall_curve(found, pa.Table.from_pylist(rows, RANKINGS))
    assert plot.header == ("K", "image only", "RAU head")
    by_cut = {row[0]: row[2] for row in plot.rows}
    assert [by_cut[k] for k in ("1", "5", "70")] == expected
    assert f"RAU head, K 5: {expected[1]}" in titles(plot)
