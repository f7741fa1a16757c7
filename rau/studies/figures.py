"""Plotting functions shared by the figures of several studies."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from rau.studies.plan import EDGES, compared
from rau.studies.tables import StudyTables

# If a difference is larger than WIDE points, the axis is logarithmic beyond LINEAR points, so that
# distant baselines leave room for methods that are close.
WIDE, LINEAR = 8.0, 2.0


def panels(columns: int, height: float = 3.8) -> tuple[Figure, list[Axes]]:
    """Create a figure of panels side by side; the height is in inches."""
    figure = Figure(figsize=(4.6 * columns, height), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(1, columns)))


def pick(summary: pd.DataFrame, protocol: str, metric: str) -> pd.DataFrame:
    """Select the rows of one metric, indexed by variant."""
    rows: pd.DataFrame = summary[(summary.protocol == protocol) & (summary.metric == metric)]
    return rows.set_index("variant")


def differences(tables: StudyTables) -> Figure:
    """Plot differences to the reference with intervals, per protocol and headline metric."""
    summary, reference = tables.summary, tables.document.reference
    metrics = compared(set(summary.metric))
    shown = [(protocol, metric) for protocol in summary.protocol.unique() for metric in metrics]
    figure, axes = panels(len(shown), 1.2 + 0.3 * len(tables.document.variants))
    for place, (axis, (protocol, metric)) in enumerate(zip(axes, shown, strict=True)):
        rows: pd.DataFrame = pick(summary, protocol, metric).drop(index=reference)
        intervals(axis, rows, list(rows.index) if place == 0 else [""] * len(rows))
        if max(rows.difference.abs()) > WIDE:
            axis.set_xscale("symlog", linthresh=LINEAR)
            axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.set(title=f"{protocol}: {metric}", xlabel=f"difference to {reference}, points")
    return figure


def intervals(axis: Axes, rows: pd.DataFrame, labels: Sequence[str]) -> None:
    """Plot differences with their intervals, the first row at the top."""
    y = np.arange(len(rows))[::-1]
    ends = reach(rows, "difference")
    axis.errorbar(rows.difference, y, xerr=ends, fmt="o", capsize=3, color="#1f5fa8")
    axis.axvline(0, color="grey", linewidth=1)
    axis.set_yticks(y, labels)


def reach(rows: pd.DataFrame, name: str) -> list[pd.Series]:
    """Lengths of the intervals of `mean` or `difference` below and above, for `errorbar`."""
    start = "" if name == "mean" else f"{name}_"
    return [rows[name] - rows[f"{start}low"], rows[f"{start}high"] - rows[name]]


def band(axis: Axes, x: Sequence[float], rows: pd.DataFrame, label: str) -> None:
    """Plot means as a line and their intervals as a band."""
    (line,) = axis.plot(x, rows["mean"], "o-", label=label, markersize=4)
    axis.fill_between(x, rows.low, rows.high, alpha=0.15, color=line.get_color())


def axis_places(tables: StudyTables, name: str) -> tuple[list[str], list[float]]:
    """Labels of the variants that have a position on an axis, and these positions."""
    places = {v.label: v.x.get(name) for v in tables.document.variants}
    on_it = {label: float(x) for label, x in places.items() if x is not None}
    return list(on_it), list(on_it.values())


def cosines(axis: Axes, histograms: Mapping[str, Sequence[float]]) -> None:
    """Plot the cosines of query and image means on the holdout, by kind of pair."""
    middles = (EDGES[:-1] + EDGES[1:]) / 2
    names = {
        "pairs": "query and its target",
        "others": "query and other targets",
        "true": "… that are correct too",
    }
    for kind, label in names.items():
        share = np.asarray(histograms[kind])
        if share.sum():
            axis.step(middles, 100 * share, where="mid", label=label)
    axis.set(xlabel="cosine", ylabel="percent of pairs", title="holdout, deterministic head")
    axis.legend(fontsize="small")
