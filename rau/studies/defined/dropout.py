"""Comparison of ISU and dropout as regularisers: dropout by σ, per amount of data."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rau.evaluation import bootstrap
from rau.methods import METHODS, WEIGHTED_SUM
from rau.params import Params
from rau.report import metric_names
from rau.report.numbers import minus
from rau.studies.figures import reach
from rau.studies.grid import ENDS, Grid, interval_of
from rau.studies.plan import (
    Plan,
    Preset,
    Regime,
    Tuned,
    Variant,
    compared,
    headline,
    regime,
    regimes,
    variant,
    where,
)
from rau.studies.registry import Study
from rau.studies.runs import Result
from rau.studies.summary import one_metric
from rau.studies.tables import StudyTables

DROPOUTS: Mapping[Preset, tuple[float, ...]] = {
    "smoke": (0.3, 0.7),
    "quick": (0.3, 0.5, 0.7, 0.85),
    "full": (0.1, 0.3, 0.5, 0.7, 0.85),
}
# Initial norms of sigma; 0 is the deterministic head.
SIGMAS: Mapping[Preset, tuple[float, ...]] = {
    "smoke": (0.0, 0.6),
    "quick": (0.0, 0.6, 1.2),
    "full": (0.0, 0.3, 0.6, 1.2, 2.4),
}
REGIMES: Mapping[Preset, tuple[Regime, ...]] = {
    "smoke": ((0.5, 0.4),),
    "quick": ((1.0, 0.0), (0.1, 0.0), (0.1, 0.4)),
    "full": ((1.0, 0.0), (0.3, 0.0), (0.1, 0.0), (1.0, 0.4), (0.1, 0.4)),
}
RESAMPLES = 10_000
Floats = NDArray[np.float64]
NOTE = (
    "Per regime and σ the dropout with the best mean over seeds on the holdout, as many tried for "
    "each σ; val chose nothing. Difference: to σ = 0 at its own chosen dropout; that of the "
    "weighted sum, which a head starts as, says whether training helped at all. Wrong dropout: "
    "what the dropout that is worst on the holdout loses on val against the chosen one, and how "
    "much less that is than with σ = 0. Intervals are 95 %, by bootstrap over queries and seeds, "
    "not adjusted for the number of rows."
)


def variants(params: Params, sizes: Plan, tuned: Tuned) -> list[Variant]:
    """Return RAU with only ISU at every σ and dropout, and the weighted sum.

    The partner of the former is the deterministic head with the same dropout. Every head starts as
    the weighted sum.
    """
    rows = []
    for fraction, noise in regimes(params, REGIMES[sizes.preset]):
        place, changes = regime(params, fraction, noise)
        x: dict[str, Any] = {"fraction": fraction, "noise": noise}
        untrained = f"{METHODS[WEIGHTED_SUM].label}{place}"
        made = variant(untrained, params, {**changes, "head.name": WEIGHTED_SUM}, **x)
        rows.append(replace(made, partner=untrained))
        for dropout in DROPOUTS[sizes.preset]:
            for sigma in SIGMAS[sizes.preset]:
                own_changes = {
                    **changes,
                    "head.name": "rau",
                    "head.dropout": dropout,
                    "ua.n": max(params.ua.n, 1),  # Without a block there is no σ.
                    "ua.isu": sigma > 0,
                    "ua.csu_weight": 0.0,
                    "ua.dr_weight": 0.0,
                } | ({"ua.sigma_init": sigma} if sigma else {})
                x |= {"dropout": dropout, "sigma": sigma}
                made = variant(_label(fraction, noise, dropout, sigma), params, own_changes, **x)
                rows.append(replace(made, partner=_label(fraction, noise, dropout, 0.0)))
    return rows


def _label(fraction: float, noise: float, dropout: float, sigma: float) -> str:
    return f"dropout {dropout:g}, σ {sigma:g}{where(fraction, noise)}"


def own(
    found: Sequence[Variant], results: Mapping[str, Sequence[Result]]
) -> dict[str, pd.DataFrame]:
    """Return the dropout chosen on the holdout, per regime and σ, and the weighted sum.

    The former includes the loss from a wrong dropout.
    """
    rows, sums = [], []
    for key in dict.fromkeys((v.x["fraction"], v.x["noise"]) for v in found):
        every = [v for v in found if (v.x["fraction"], v.x["noise"]) == key]
        there = [v for v in every if "sigma" in v.x]
        best: dict[float, Sequence[Result]] = {}
        worst: dict[float, Sequence[Result]] = {}
        for sigma in dict.fromkeys(_number(v, "sigma") for v in there):
            some = [v for v in there if v.x["sigma"] == sigma]
            chosen = max(some, key=lambda v: _holdout(results[v.label]))
            best[sigma] = results[chosen.label]
            worst[sigma] = results[min(some, key=lambda v: _holdout(results[v.label])).label]
            held, mean = _holdout(best[sigma]), _mean(best[sigma])
            gap = _difference([(1, best[sigma]), (-1, best[0.0])])
            loss = _difference([(1, best[sigma]), (-1, worst[sigma])])
            flatter = _difference(
                [(1, best[0.0]), (-1, worst[0.0]), (-1, best[sigma]), (1, worst[sigma])]
            )
            rows.append((*key, sigma, chosen.x["dropout"], held, mean, *gap, *loss, *flatter))
        (untrained,) = (results[v.label] for v in every if "sigma" not in v.x)
        gap = _difference([(1, untrained), (-1, best[0.0])])
        sums.append((*key, _holdout(untrained), _mean(untrained), *gap))
    place, ends = ["fraction", "noise"], [f"difference{end}" for end in ENDS]
    columns = [*place, "sigma", "dropout", "holdout", "mean", *ends]
    columns += [f"{name}{end}" for name in ("loss", "flatter") for end in ENDS]
    return {
        "tuned": pd.DataFrame(rows, columns=columns),
        "untrained": pd.DataFrame(sums, columns=[*place, "holdout", "mean", *ends]),
    }


def _number(of: Variant, name: str) -> float:
    value = of.x[name]
    assert isinstance(value, float)
    return value


def _holdout(results: Sequence[Result]) -> float:
    name = f"holdout_{results[0].params['train.select']}"
    return float(np.mean([result.summary[name] for result in results]))


def _values(results: Sequence[Result]) -> dict[str, Floats]:
    """Return the headline metric of every row, (S, R, 1), by category."""
    return one_metric(results, headline(results[0].names))


def _mean(results: Sequence[Result]) -> float:
    clusters = next(iter(results[0].clusters.values()))
    return float(bootstrap.means(_values(results), clusters)[0])


def _difference(terms: Sequence[tuple[int, Sequence[Result]]]) -> tuple[float, float, float]:
    """Return a signed sum of means, paired by seed and query, and its interval."""
    signed = [(sign, _values(results)) for sign, results in terms]
    total = {c: sum(sign * values[c] for sign, values in signed) for c in signed[0][1]}
    clusters = next(iter(terms[0][1][0].clusters.values()))
    gaps = {c: np.asarray(value) for c, value in total.items()}
    ends = bootstrap.intervals(gaps, clusters, RESAMPLES, bootstrap.SEED)[bootstrap.MEAN]
    return float(bootstrap.means(gaps, clusters)[0]), float(ends[0][0]), float(ends[1][0])


def grids(tables: StudyTables) -> dict[str, Grid]:
    """Return the table of heads with tuned dropout, with the loss from a wrong dropout."""
    rows = []
    for one in tables.own["tuned"].to_dict("records"):
        cells = [f"{one['dropout']:g}", f"{one['holdout']:.2f}", f"{one['mean']:.2f}"]
        for name in ("difference", "loss", "flatter"):
            own_reference = one["sigma"] == 0 and name != "loss"
            cells.append("" if own_reference else interval_of(one, name))
        rows.append([f"σ {one['sigma']:g}{where(one['fraction'], one['noise'])}", *cells])
    for one in tables.own["untrained"].to_dict("records"):
        cells = ["", f"{one['holdout']:.2f}", f"{one['mean']:.2f}", interval_of(one, "difference")]
        label = f"{METHODS[WEIGHTED_SUM].label}{where(one['fraction'], one['noise'])}"
        rows.append([label, *cells, "", ""])
    header = ["", "dropout", "holdout", "val", "difference", "wrong dropout loses", "less by"]
    return {"Each with the dropout that the holdout chose": Grid(header, rows, NOTE)}


def figure(tables: StudyTables) -> Figure:
    """Plot the headline metric and mAP against dropout, a line per σ, a column per regime."""
    summary = tables.summary
    rows = summary[summary.protocol == summary.protocol.iloc[0]]
    places = pd.DataFrame([{"variant": v.label, **v.x} for v in tables.document.variants])
    metrics = compared(set(rows.metric))
    kinds = list(places.groupby(["fraction", "noise"], sort=False))
    drawn = Figure(figsize=(4.8 * len(kinds), 3.4 * len(metrics)), layout="constrained")
    grid = drawn.subplots(len(metrics), len(kinds), squeeze=False)
    for metric, axes in zip(metrics, grid, strict=True):
        by_label = rows[rows.metric == metric].set_index("variant")
        for axis, ((fraction, noise), there) in zip(axes, kinds, strict=True):
            for sigma, line in there.groupby("sigma"):
                some = by_label.loc[list(line.variant)]
                ends = reach(some, "mean")
                axis.errorbar(
                    line.dropout, some["mean"], yerr=ends, fmt="o-", capsize=2, label=f"σ {sigma:g}"
                )
            axis.set(
                title=f"{fraction:.0%} of the queries, {noise:.0%} wrong",
                ylabel=metric_names.label(metric),
            )
            axis.set(xlabel="dropout")
    grid[0, 0].legend(fontsize="small")
    return drawn


def _place(row: Mapping[Any, Any]) -> str:
    return where(row["fraction"], row["noise"]).strip(" ()") or "all queries"


def answer(tables: StudyTables) -> str:
    """State ISU's gain per regime at the σ and dropout chosen on the holdout.

    Also states the loss from a wrong dropout.
    """
    heads: dict[str, list[Mapping[Any, Any]]] = {}
    for row in tables.own["tuned"].to_dict("records"):
        heads.setdefault(_place(row), []).append(row)
    told = [
        f"{_place(untrained)}: {_told(heads[_place(untrained)], untrained)}"
        for untrained in tables.own["untrained"].to_dict("records")
    ]
    return minus("; ".join(told))


def _told(heads: Sequence[Mapping[Any, Any]], untrained: Mapping[Any, Any]) -> str:
    """Summarise the heads of a regime, compared with its weighted sum."""
    if all(row["mean"] == untrained["mean"] for row in heads):
        return "every head kept the weighted sum that it starts as"
    isu = max((row for row in heads if row["sigma"] > 0), key=lambda row: float(row["holdout"]))
    return (
        f"ISU {interval_of(isu, 'difference')} at its own dropout (σ {isu['sigma']:g}), the "
        f"untrained weighted sum {interval_of(untrained, 'difference')}; what a wrong dropout "
        f"costs is less by {interval_of(isu, 'flatter')} with ISU"
    )


STUDY = Study(
    "Dropout by σ",
    "Does dropout replace ISU as a regulariser?",
    answer,
    "the same dropout with σ 0",
    variants,
    figure,
    own=own,
    grids=grids,
)
