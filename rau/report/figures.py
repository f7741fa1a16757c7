"""Figures of a run, as matplotlib figures without global state."""

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


def finetuning(history: Columns) -> Figure:
    """Loss, and recalls on the holdout, by epoch of fine-tuning; on val where it was measured."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    loss, recall = figure.subplots(1, 2)
    loss.plot(history["epoch"], history["loss"])
    loss.set(xlabel="epoch", ylabel="loss, mean over queries", title="Fine-tuning: loss")
    for split, style in (("holdout", "-"), ("val", ":")):
        for number, name in enumerate(("mean_of_r10_r50", "map")):
            if (values := history.get(f"{split}_{name}")) is not None:
                recall.plot(
                    history["epoch"], values, style, color=f"C{number}", label=f"{name}, {split}"
                )
    recall.set(xlabel="epoch", ylabel="percent", title="Fine-tuning: recall", ylim=(0, None))
    recall.legend()
    return figure


def sigmas(history: Columns, source: Sequence[float], target: Sequence[float]) -> Figure:
    """Sigma by epoch, and its distribution over val queries and their targets."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    by_epoch, on_val = figure.subplots(1, 2)
    for side in ("source", "target"):
        by_epoch.plot(history["epoch"], history[f"sigma_{side}"], label=side)
    by_epoch.set(xlabel="epoch", ylabel="norm of σ (means have norm 1)", title="σ in training")
    by_epoch.legend()
    edges = np.histogram_bin_edges([*source, *target], 40)
    for side, values in (("source", source), ("target", target)):
        on_val.hist(values, edges, alpha=0.6, label=side)
    title = "σ on val" if source else "σ on val: no usable query"
    on_val.set(xlabel="norm of σ", ylabel="val queries", title=title)
    on_val.legend()
    return figure
