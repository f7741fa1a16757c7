"""Every plotted value stands in the plot's text, on hover, and in its table."""

from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pyarrow as pa
import pytest

from rau.report import run_plots
from rau.report.html import mark
from rau.report.numbers import minus, signed
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
    assert titles(against)[1] == f"R@10: {minus('-0.75 [-1.50, -0.10]')} {mark(0.004)}"
    assert against.rows[1] == ("R@10", minus("-0.75"), minus("[-1.50, -0.10]"), "0.0040")
    assert run_plots.differences(metrics(against={}), "original", ["recall_at_1"]) is None


def ticks(plot: Plot) -> list[str]:
    """The text of all axes."""
    root = ET.fromstring(plot.file())
    return [one.text or "" for one in root.iter(f"{SVG}text") if one.get("class") == "tick"]


def test_numbers_have_a_true_minus_zeros_no_sign_and_names_their_hyphens() -> None:
    assert (
        minus("[-1.5, 2] of kept-2, ViT-B-32, 1e-5")
        == "[\N{MINUS SIGN}1.5, 2] of kept-2, ViT-B-32, 1e-5"
    )
    assert minus("[-0.00, +0.0] +0.01 kept-0") == "[0.00, 0.0] +0.01 kept-0"
    assert [signed(v) for v in (0.125, -1.0, -0.004, 1e-14)] == [
        "+0.12",
        "\N{MINUS SIGN}1.00",
        "0.00",
        "0.00",
    ]


def test_differences_of_rounding_are_none() -> None:
    """A sum in another order is another digit: both methods rank alike."""
    plot = forest("t", [Point("R@1", -1e-14, (-3e-14, 2e-14), p=1.0)], "points", signed=True)
    assert titles(plot) == ["R@1: 0.00 [0.00, 0.00]"]
    assert places(plot, "x") == [200.0]
    assert ticks(plot) == [minus("-1"), "0", "1", "points"]


def test_no_line_crosses_a_value() -> None:
    """The line of zero would make a plus of a minus."""
    plot = forest("t", [Point("a", -0.3, (-1.0, 0.2))], "points", signed=True)
    root = ET.fromstring(plot.file())
    parts = [*root.iter()]
    by_class = {one.get("class"): place for place, one in enumerate(parts)}
    (value,) = (place for place, one in enumerate(parts) if one.get("text-anchor") == "end")
    assert by_class["zero"] < by_class["under"] == value - 1
    box, zero = parts[by_class["under"]], parts[by_class["zero"]]
    start = float(box.get("x", ""))
    assert start < float(zero.get("x1", ""))
    assert start + float(box.get("width", "")) == float(parts[value].get("x", ""))


def test_a_small_difference_is_drawn_small() -> None:
    low, high = sorted(places(forest("t", [Point("", 0.0), Point("", 0.02)], "points", True), "x"))
    assert 0 < high - low < 20


def test_axis_of_a_forest_whose_values_are_all_far_is_linear() -> None:
    x = places(forest("t", [Point("", v) for v in (-20.0, 0.0, 10.0, 20.0)], "points", True), "x")
    assert x[1] - x[0] == pytest.approx(x[3] - x[1], abs=0.2)
    assert x[2] - x[1] == pytest.approx(x[3] - x[2], abs=0.2)


@pytest.mark.parametrize(
    ("epochs", "expected"), [([1], "012"), ([1, 2], "12"), ([0, 1, 2, 3], "0123")]
)
def test_epochs_have_whole_ticks(epochs: list[int], expected: str) -> None:
    plot = curves("t", [Series("a", epochs, [0.5] * len(epochs))], "epoch", "loss")
    shown = ticks(plot)
    assert shown[: shown.index("epoch")] == list(expected)


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


def test_holdout_and_val_are_correlated_over_the_epochs_that_both_know() -> None:
    missing = float("nan")
    history = {
        "epoch": np.arange(6.0),
        "loss": np.ones(6),
        "holdout_mean_of_r10_r50": np.array([1.0, 2, 3, 4, 5, 6]),
        "val_mean_of_r10_r50": np.array([10.0, 30, 20, 50, 40, missing]),
        "holdout_map": np.array([1.0, 2, 3, 4, 5, 6]),
        "val_map": np.array([6.0, 5, 4, 3, 2, 1]),
    }
    words = "Spearman's rank correlation of holdout and val: "
    # Two neighbours of five change places: 1 - 6 * 4 / (5 * 24).
    own = "mean of R@10 and R@50 0.80 over 5 epochs"
    told = f"{words}{own}, mAP \N{MINUS SIGN}1.00 over 6 epochs."
    assert run_plots.agreement(history) == told
    note = run_plots.finetuning(history)["finetuning_recall"].note
    assert note == f"Val (dashed) was not used for selection. {told}"
    without = {name: values for name, values in history.items() if not name.startswith("val_")}
    short = {name: values[:3] for name, values in history.items()}
    flat = {name: values * 0 for name, values in history.items()}
    assert [run_plots.agreement(one) for one in (without, short, flat)] == [""] * 3
    assert run_plots.finetuning(without)["finetuning_recall"].note == ""
