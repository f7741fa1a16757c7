"""Figures of a run, as matplotlib figures that belong to no global state."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

Columns = Mapping[str, NDArray[np.float64]]


def losses(history: Columns) -> Figure:
    """Loss terms by epoch."""
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for name in ("loss", "base", "csu", "dr"):
        axes.plot(history["epoch"], history[name], label=name)
    axes.set(
        xlabel="epoch",
        ylabel="loss, mean over queries",
        title="Loss and its unweighted terms",
    )
    axes.legend()
    return figure


def recalls(history: Columns, best_epoch: int) -> Figure:
    """Holdout recalls by epoch, the kept epoch marked."""
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for name in ("recall_at_1", "recall_at_10", "recall_at_50", "map"):
        if f"holdout_{name}" in history:
            axes.plot(history["epoch"], history[f"holdout_{name}"], label=name)
    axes.axvline(best_epoch, color="grey", linestyle=":", label="kept epoch")
    axes.set(xlabel="epoch", ylabel="percent", title="On the holdout", ylim=(0, None))
    axes.legend()
    return figure


def sigmas(history: Columns, source: Sequence[float], target: Sequence[float]) -> Figure:
    """Sigma by epoch, and its distribution over val queries and their targets."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    by_epoch, on_val = figure.subplots(1, 2)
    for side in ("source", "target"):
        by_epoch.plot(history["epoch"], history[f"sigma_{side}"], label=side)
    by_epoch.set(xlabel="epoch", ylabel="norm of σ (means have norm 1)", title="σ in training")
    by_epoch.legend()
    values = [np.asarray(source), np.asarray(target)]
    low = min(float(v.min()) for v in values)
    high = max(float(v.max()) for v in values)
    edges = np.linspace(low, high if high > low else low + 1e-6, 41)
    for side, value in zip(("source", "target"), values, strict=True):
        on_val.hist(value, edges, alpha=0.6, label=side)
    on_val.set(xlabel="norm of σ", ylabel="val queries", title="σ on val")
    on_val.legend()
    return figure
