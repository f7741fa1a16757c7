"""The plots of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from rau.evaluation.run_metrics import CalibrationFigures, Composition, RunMetrics
from rau.report.metric_names import label
from rau.report.numbers import minus
from rau.report.svg import Plot, Point, Series, curves, forest

Columns = Mapping[str, NDArray[np.float64]]
FIRST = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)
# The metrics whose curves a fine-tuning has.
FOLLOWED = ("mean_of_r10_r50", "map")
# With fewer epochs, a rank correlation is not meaningful.
FEWEST = 4
TICKS = (1, 2, 5, 10, 20, 50, 100)


def methods(metrics: RunMetrics, protocol: str, metric: str) -> Plot:
    """The mean of a metric under a protocol for every method, with its interval."""
    scores = {name: found[protocol]["mean"] for name, found in metrics.baselines.items()}
    ends = {name: found[protocol] for name, found in metrics.baseline_intervals.items()}
    scores[metrics.method] = metrics.protocols[protocol]["mean"]
    ends[metrics.method] = metrics.intervals[protocol]
    points = [
        Point(name, own[metric], ends[name].get("mean", {}).get(metric), name == metrics.method)
        for name, own in scores.items()
    ]
    return forest(f"Methods under protocol {protocol}", points, f"{label(metric)}, percent")


def differences(metrics: RunMetrics, protocol: str, names: Sequence[str]) -> Plot | None:
    """The method's differences to the deterministic head; None if there are none."""
    found = metrics.against.get(protocol)
    if not found:
        return None
    points = [
        Point(label(name), one.difference, one.interval, True, one.p)
        for name in names
        if (one := found["mean"].get(name))
    ]
    title = f"{metrics.method} minus the deterministic head, protocol {protocol}"
    return forest(title, points, "points", signed=True)


def composition(found: Composition, method: str, protocol: str) -> Plot:
    """The gain of every method over the better single modality, paired by query."""
    points = [
        Point(name, own.gap.difference, own.gap.interval, name == method)
        for name, own in found.methods.items()
        if name != found.better
    ]
    title = f"Gain over {found.better}, the better single modality, protocol {protocol}"
    return forest(title, points, f"{label(found.metric)}, points", signed=True)


def recall_curve(metrics: RunMetrics, rankings: pa.Table) -> Plot:
    """Recall by K of every method under the headline's protocol, the mean over categories.

    Args:
        rankings: of schema `RANKINGS`. Rows without a rank are misses; if unusable queries are
            left out, those with missing images do not count.
    """
    names = [*metrics.baselines, metrics.method]
    columns = ["method", "protocol", "category", "target_rank"]
    rows = rankings.select(columns).to_pandas()
    if metrics.coverage.unusable == "leave_out":
        rows["listed"] = np.asarray(rankings["top"].combine_chunks().value_lengths()) > 0
        rows = rows[rows.listed]
    rows = rows[rows.protocol == metrics.headline.protocol]
    series = []
    for name in names:
        own = rows[rows.method == name].groupby("category").target_rank
        recalls = [
            100 * float(np.mean([(ranks <= k).mean() for _, ranks in own])) if len(own) else np.nan
            for k in FIRST
        ]
        series.append(Series(name, FIRST, recalls, own=name == metrics.method))
    return curves(
        f"Recall at K, protocol {metrics.headline.protocol}",
        series,
        "K",
        "percent of the queries",
        x_ticks=TICKS,
        log_x=True,
    )


def calibration(sure: CalibrationFigures) -> Plot:
    """Reliability diagram: the observed frequency of the target among the first k against its
    predicted probability, in bins of equal mass."""
    bins = {
        f"among the first {k}": sorted(own, key=lambda one: one.probability)
        for k, own in sure.reliability.items()
    }
    series = [
        Series(name, [one.probability for one in own], [one.rate for one in own])
        for name, own in bins.items()
    ]
    ends = [0.0, 1.0]
    return curves(
        "Reliability diagram: observed frequency against predicted probability",
        [*series, Series("perfect calibration", ends, ends, dashed=True)],
        "predicted probability",
        "observed frequency",
    )


def training(history: Columns, best_epoch: int) -> dict[str, Plot]:
    """The curves of a training by file name."""
    epochs = history["epoch"].tolist()
    losses = _by_epoch(history, {name: name for name in ("loss", "base", "csu", "dr")})
    recalls = _by_epoch(
        history,
        {f"holdout_{n}": label(n) for n in ("recall_at_1", "recall_at_10", "recall_at_50", "map")},
    )
    kept = (float(best_epoch), f"epoch {best_epoch}, kept") if best_epoch in epochs else None
    return {
        "loss": curves(
            "Loss and its unweighted terms by epoch", losses, "epoch", "mean over queries", digits=4
        ),
        "recall": curves("Holdout metrics by epoch", recalls, "epoch", "percent", mark=kept),
    }


def finetuning(history: Columns) -> dict[str, Plot]:
    """The curves of an encoder's fine-tuning by file name."""
    loss = _by_epoch(history, {"loss": "loss"})
    shown = [
        Series(
            f"{label(name)}, {split}",
            history["epoch"].tolist(),
            values.tolist(),
            dashed=split == "val",
            colour=colour,
        )
        for split in ("holdout", "val")
        for colour, name in enumerate(FOLLOWED)
        if (values := history.get(f"{split}_{name}")) is not None
    ]
    found = {
        "finetuning_loss": curves(
            "Fine-tuning of the encoder: loss", loss, "epoch", "mean over queries", digits=4
        )
    }
    if shown:
        recall = curves("Fine-tuning of the encoder: recall", shown, "epoch", "percent")
        note = "Val (dashed) was not used for selection." if any(s.dashed for s in shown) else ""
        note = " ".join(filter(None, [note, agreement(history)]))
        found["finetuning_recall"] = replace(recall, note=note)
    return found


def agreement(history: Columns) -> str:
    """Spearman's rank correlations of holdout and val over epochs, as a sentence.

    Empty without `finetune.val_curve`, or if fewer than `FEWEST` epochs are known.
    """
    found = []
    for metric in FOLLOWED:
        pair = [f"{split}_{metric}" for split in ("holdout", "val")]
        if not history.keys() >= {*pair}:
            continue
        known = pd.DataFrame({name: history[name] for name in pair}).dropna()
        if len(known) >= FEWEST and (known.nunique() > 1).all():
            held, val = (known[name].rank() for name in pair)
            correlation = held.corr(val)
            found.append(f"{label(metric)} {correlation:.2f} over {len(known)} epochs")
    if not found:
        return ""
    return minus(f"Spearman's rank correlation of holdout and val: {', '.join(found)}.")


def sigmas(history: Columns, source: Sequence[float], target: Sequence[float]) -> dict[str, Plot]:
    """σ by epoch, and its distribution over val queries and their targets."""
    sides = _by_epoch(history, {f"sigma_{side}": side for side in ("source", "target")})
    edges = np.histogram_bin_edges([*source, *target], 40)
    middles = ((edges[1:] + edges[:-1]) / 2).round(6).tolist()
    spread = [
        Series(side, middles, np.histogram(values, edges)[0].tolist())
        for side, values in (("source", source), ("target", target))
    ]
    title = "σ on val" if source else "σ on val: no usable query"
    axis = "norm of σ (means have norm 1)"
    return {
        "sigma": curves("σ in training", sides, "epoch", axis, digits=4),
        "sigma_on_val": curves(title, spread, axis, "val queries", digits=0),
    }


def _by_epoch(history: Columns, labels: Mapping[str, str]) -> list[Series]:
    epochs = history["epoch"].tolist()
    return [
        Series(text, epochs, history[name].tolist())
        for name, text in labels.items()
        if name in history
    ]
