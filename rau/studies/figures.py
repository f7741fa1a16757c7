"""Figures of the studies, from their tables."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from rau.studies.plan import EDGES, Study
from rau.studies.tables import StudyTables

# Where a difference is larger than WIDE points, the axis is logarithmic beyond LINEAR points, so
# that distant baselines leave room for the methods that are close.
WIDE, LINEAR = 8.0, 2.0


def _figure(columns: int, height: float = 3.8) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(4.6 * columns, height), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(1, columns)))


def _pick(summary: pd.DataFrame, protocol: str, metric: str) -> pd.DataFrame:
    rows: pd.DataFrame = summary[(summary.protocol == protocol) & (summary.metric == metric)]
    return rows.set_index("variant")


def differences(tables: StudyTables) -> Figure:
    """Differences to the reference with intervals, one panel per protocol and headline metric."""
    summary, reference = tables.summary, tables.document.reference
    known = set(summary.metric)
    metrics = ["mean_of_r5_rs1" if "mean_of_r5_rs1" in known else "mean_of_r10_r50"]
    metrics += ["map"] if "map" in known else []
    panels = [(protocol, metric) for protocol in summary.protocol.unique() for metric in metrics]
    figure, axes = _figure(len(panels), 1.2 + 0.3 * len(tables.document.variants))
    for place, (axis, (protocol, metric)) in enumerate(zip(axes, panels, strict=True)):
        rows: pd.DataFrame = _pick(summary, protocol, metric).drop(index=reference)
        _intervals(axis, rows, list(rows.index) if place == 0 else [""] * len(rows))
        if max(rows.difference.abs()) > WIDE:
            axis.set_xscale("symlog", linthresh=LINEAR)
            axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.set(title=f"{protocol}: {metric}", xlabel=f"difference to {reference}, points")
    return figure


def regimes(tables: StudyTables) -> Figure:
    """Differences to the deterministic composer, one panel per regime of data and metric."""
    summary, document = tables.summary, tables.document
    protocol = summary.protocol.iloc[0]
    places = {v.label: (v.x["fraction"], v.x["noise"]) for v in document.variants}
    known = set(summary.metric)
    shown = [name for name in ("mean_of_r10_r50", "mean_of_r5_rs1", "map") if name in known]
    kinds = list(dict.fromkeys(places.values()))
    figure = Figure(figsize=(4.6 * len(kinds), 2.9 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), len(kinds), squeeze=False, sharex=True)
    for metric, axes in zip(shown, grid, strict=True):
        for (fraction, noise), axis in zip(kinds, axes, strict=True):
            rows = _pick(summary, protocol, metric).dropna(subset="difference")
            rows = rows[[places[label] == (fraction, noise) for label in rows.index]]
            _intervals(axis, rows, [label.split(" (")[0] for label in rows.index])
            axis.set(title=f"{fraction:.0%} of the queries, {noise:.0%} wrong", xlabel=metric)
    figure.suptitle(f"{protocol}: difference to {document.reference}, points")
    return figure


def _intervals(axis: Axes, rows: pd.DataFrame, labels: Sequence[str]) -> None:
    """Differences with their intervals, the first row at the top."""
    y = np.arange(len(rows))[::-1]
    ends = [rows.difference - rows.difference_low, rows.difference_high - rows.difference]
    axis.errorbar(rows.difference, y, xerr=ends, fmt="o", capsize=3, color="#1f5fa8")
    axis.axvline(0, color="grey", linewidth=1)
    axis.set_yticks(y, labels)


def _band(axis: Axes, x: Sequence[float], rows: pd.DataFrame, label: str) -> None:
    (line,) = axis.plot(x, rows["mean"], "o-", label=label, markersize=4)
    axis.fill_between(x, rows.low, rows.high, alpha=0.15, color=line.get_color())


def _axis(tables: StudyTables, name: str) -> tuple[list[str], list[float]]:
    """Labels of the variants that lie on an axis, and their positions on it."""
    places = {v.label: v.x.get(name) for v in tables.document.variants}
    on_it = {label: float(x) for label, x in places.items() if x is not None}
    return list(on_it), list(on_it.values())


def _sweep(left: Axes, right: Axes, tables: StudyTables, axis_name: str) -> None:
    """Metrics against a threshold at the left, the positives that CSU added at the right."""
    labels, x = _axis(tables, axis_name)
    summary = tables.summary
    protocol = summary.protocol.iloc[0]
    for metric in ("recall_at_10", "recall_at_50", "map"):
        rows = _pick(summary, protocol, metric)
        if rows.empty:
            continue
        _band(left, x, rows.loc[labels], metric)
        flat = float(rows["mean"].loc[tables.document.reference])
        left.axhline(flat, linestyle=":", color=left.get_lines()[-1].get_color())
    left.set(xlabel=axis_name, ylabel="percent", title=f"{protocol}; dotted: deterministic head")
    left.legend(fontsize="small")
    means = tables.runs.groupby("variant")[
        ["csu_added_per_row", "csu_precision", "csu_recall"]
    ].mean()
    right.plot(x, means.loc[labels, "csu_added_per_row"], "ko-", label="extra positives per query")
    right.set(xlabel=axis_name, yscale="symlog", title="what CSU adds, kept epoch")
    right.set_ylabel("extra positives per query")
    if means.loc[labels, "csu_precision"].notna().any():
        rates = right.twinx()
        for name, colour in (("csu_precision", "tab:green"), ("csu_recall", "tab:orange")):
            rates.plot(x, 100 * means.loc[labels, name], "s--", color=colour, label=name)
        rates.set(ylabel="percent", ylim=(0, 105))
        rates.legend(fontsize="small", loc="center right")


def theta(tables: StudyTables) -> Figure:
    """Recalls and extra positives against θ and against its quantile, and the cosines."""
    figure = Figure(figsize=(13, 7.5), layout="constrained")
    grid = figure.add_gridspec(2, 3)
    for row, name in enumerate(("theta", "theta_quantile")):
        left, right = figure.add_subplot(grid[row, 0]), figure.add_subplot(grid[row, 1])
        _sweep(left, right, tables, name)
    document = tables.document
    cosines(figure.add_subplot(grid[:, 2]), document.cosines[document.reference])
    return figure


def cosines(axis: Axes, histograms: Mapping[str, Sequence[float]]) -> None:
    """Cosines of query and image means on the holdout, by kind of pair."""
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


def blocks(tables: StudyTables) -> Figure:
    """R@1 against R@50 by n, and the number of parameters and training time by n."""
    protocol = tables.summary.protocol.iloc[0]
    figure, axes = _figure(3)
    first, deep = (_pick(tables.summary, protocol, f"recall_at_{k}") for k in (1, 50))
    labels, n = _axis(tables, "n")
    axes[0].errorbar(
        first.loc[labels, "mean"],
        deep.loc[labels, "mean"],
        xerr=_ends(first.loc[labels]),
        yerr=_ends(deep.loc[labels]),
        fmt="o",
        elinewidth=0.6,
    )
    for label in labels:
        axes[0].annotate(label, (first.loc[label, "mean"], deep.loc[label, "mean"]))
    axes[0].set(xlabel="R@1", ylabel="R@50", title=f"protocol {protocol}")
    means = tables.runs.groupby("variant")[["parameters", "seconds"]].median().loc[labels]
    axes[1].plot(n, means.parameters / 1e6, "o-")
    axes[1].set(xlabel="n", ylabel="million parameters", title="size", ylim=(0, None))
    axes[2].plot(n, means.seconds, "o-")
    axes[2].set(xlabel="n", ylabel="seconds", title="training, median of seeds", ylim=(0, None))
    return figure


def _ends(rows: pd.DataFrame) -> list[pd.Series]:
    return [rows["mean"] - rows.low, rows.high - rows["mean"]]


DRAWN: Mapping[Study, Callable[[StudyTables], Figure]] = {
    "methods": differences,
    "ablation": differences,
    "theta": theta,
    "n": blocks,
    "finetune": regimes,
}
