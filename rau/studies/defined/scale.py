"""Scaling of methods with train queries, galleries, captions and correct answers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rau.evaluation import bootstrap
from rau.methods import DETERMINISTIC, METHODS
from rau.params import Params
from rau.report import metric_names
from rau.report.numbers import minus
from rau.studies import answers, breakdown
from rau.studies.figures import reach
from rau.studies.galleries import METRICS
from rau.studies.grid import ENDS, Grid, interval, interval_of
from rau.studies.plan import (
    Plan,
    Preset,
    Tuned,
    Variant,
    headline,
    regime,
    regimes,
    variant,
)
from rau.studies.registry import Study
from rau.studies.runs import Result
from rau.studies.summary import one_metric
from rau.studies.tables import StudyTables

FRACTIONS: Mapping[Preset, tuple[float, ...]] = {
    "smoke": (1.0, 0.5),
    "quick": (1.0, 0.3, 0.1),
    "full": (1.0, 0.5, 0.2, 0.1, 0.05),
}
NAMES = (DETERMINISTIC, "rau")
RESAMPLES = 4000
COLUMNS = ["over", "method", "variant", "x", "metric", "mean", "low", "high"]
FITS = (
    "Points per doubling of the train queries (frozen encoders only; protocol and holdout "
    "unchanged) or of the gallery: least squares on the logarithm, refitted in every resample of "
    "queries and seeds, 95 % interval; and the slope of RAU minus that of the deterministic head. "
    "Galleries grow by images of other splits, also those that the heads were trained on, up to "
    "the factor that the figure shows. Such an image counts as wrong even if it would answer a "
    "query: part of the loss is of these."
)
KINDS = (
    "All train queries; the mean of R@10 and R@50 (or the data set's own) among some of the val "
    "queries, then the paired difference to the deterministic head, not adjusted."
)
Floats = NDArray[np.float64]
Clusters = Mapping[str, NDArray[np.int64]]


def variants(params: Params, sizes: Plan, tuned: Tuned) -> list[Variant]:
    """Return the deterministic head and RAU on every fraction of the train queries."""
    rows = []
    for fraction, noise in regimes(params, [(one, 0.0) for one in FRACTIONS[sizes.preset]]):
        place, changes = regime(params, fraction, noise)
        partner = f"{METHODS[DETERMINISTIC].label}{place}"
        for name in NAMES:
            label = f"{METHODS[name].label}{place}"
            own_changes = {**changes, "head.name": name}
            x = {"fraction": fraction, "noise": noise, "method": name}
            made = variant(label, params, own_changes, **x)
            rows.append(replace(made, partner=partner))
    return rows


def own(
    found: Sequence[Variant], results: Mapping[str, Sequence[Result]]
) -> dict[str, pd.DataFrame]:
    """Return curves over train queries and galleries, their fits, and kinds of queries."""
    first = results[found[0].label][0]
    clusters = next(iter(first.clusters.values()))
    curves, fits = [], []
    by_queries = {}
    for name in NAMES:
        some = [v for v in found if v.x["method"] == name]
        by_queries[name] = [(float(v.x["fraction"] or 0), results[v.label]) for v in some]
    factors = first.extra["growing/factors"]
    whole = {name: own_results[0][1] for name, own_results in by_queries.items()}
    # CIRR's headline metric is not measured in grown galleries: its subsets do not grow.
    known = dict.fromkeys((headline(first.names), *METRICS))
    for metric in (name for name in known if name in first.names):
        series = {
            "train queries": {
                name: ([x for x, _ in line], _stack([r for _, r in line], metric))
                for name, line in by_queries.items()
            }
        }
        if metric in METRICS:
            series["gallery"] = {
                name: (list(factors), _grown(own_results, metric))
                for name, own_results in whole.items()
            }
        for over, lines in series.items():
            made = {name: _drawn(values, clusters) for name, (_, values) in lines.items()}
            x = np.array(next(iter(lines.values()))[0])
            for name, (means, drawn) in made.items():
                ends = np.quantile(drawn, [0.025, 0.975], axis=0)
                curves += [
                    (over, name, METHODS[name].label, *point[:1], metric, *point[1:])
                    for point in zip(x, means, *ends, strict=True)
                ]
                other = made[NAMES[0]]
                if len(x) > 1:
                    steeper = _slope(x, means - other[0], drawn - other[1])
                    own_slope = _slope(x, means, drawn)
                    steeper = steeper if name != NAMES[0] else (np.nan,) * 3
                    fits.append((over, METHODS[name].label, metric, *own_slope, *steeper))
    ends_of = [f"{name}{end}" for name in ("slope", "steeper") for end in ENDS]
    full = [v for v in found if v.x["fraction"] == found[0].x["fraction"]]
    return {
        "curves": pd.DataFrame(curves, columns=COLUMNS),
        "fits": pd.DataFrame(fits, columns=["over", "method", "metric", *ends_of]),
        "kinds": breakdown.table(full, results, found[0].label, headline(first.names)),
    }


def _stack(by_x: Sequence[Sequence[Result]], metric: str) -> dict[str, Floats]:
    """Stack one metric of the results at several points, (S, R, points), by category."""
    sides = [one_metric(results, metric) for results in by_x]
    return {c: np.concatenate([side[c] for side in sides], axis=-1) for c in sides[0]}


def _grown(results: Sequence[Result], metric: str) -> dict[str, Floats]:
    """Stack one metric of the grown galleries, (S, R, factors), by category."""
    place, start = METRICS.index(metric), "growing/values/"
    categories = [n.removeprefix(start) for n in results[0].extra if n.startswith(start)]
    return {
        c: np.stack([result.extra[f"{start}{c}"][..., place].T for result in results])
        for c in categories
    }


def _drawn(values: Mapping[str, Floats], clusters: Clusters) -> tuple[Floats, Floats]:
    """Return means over seeds, queries and categories, (points,), and resampled means."""
    options = clusters, RESAMPLES, bootstrap.SEED
    return bootstrap.means(values, clusters), bootstrap.draws(values, *options)[bootstrap.MEAN]


def _slope(x: Floats, means: Floats, drawn: Floats) -> tuple[float, float, float]:
    """Return the gain in points per doubling of x, and its interval."""
    steps = np.log2(x) - np.log2(x).mean()
    weights = steps / (steps**2).sum()
    low, high = np.quantile(drawn @ weights, [0.025, 0.975])
    return float(means @ weights), float(low), float(high)


def grids(tables: StudyTables) -> dict[str, Grid]:
    """Return tables of the fits and of kinds of queries."""
    rows = []
    for one in tables.own["fits"].to_dict("records"):
        slopes = [interval_of(one, name) for name in ("slope", "steeper")]
        rows.append([f"{one['over']}: {one['method']}", metric_names.label(one["metric"]), *slopes])
    kinds = []
    for one in tables.own["kinds"].to_dict("records"):
        mean = interval((one[name] for name in ("mean", "low", "high")), "{:.2f}")
        gap = interval_of(one, "difference")
        kinds.append([one["variant"], one["group"], f"{one['queries']:,}", mean, gap])
    return {
        "Per doubling": Grid(["over", "metric", "points", "difference"], rows, FITS),
        "By kind of query": Grid(
            ["variant", "queries of", "number", "mean", "difference"], kinds, KINDS
        ),
    }


def figure(tables: StudyTables) -> Figure:
    """Plot curves over train queries and galleries with their intervals."""
    table = tables.own["curves"]
    metrics = list(dict.fromkeys(table.metric))
    drawn = Figure(figsize=(10, 3.4 * len(metrics)), layout="constrained")
    grid = drawn.subplots(len(metrics), 2, squeeze=False)
    for axes, metric in zip(grid, metrics, strict=True):
        for axis, over in zip(axes, ("train queries", "gallery"), strict=True):
            some = table[(table.over == over) & (table.metric == metric)]
            for label, line in some.groupby("variant", sort=False):
                ends = reach(line, "mean")
                axis.errorbar(line.x, line["mean"], yerr=ends, fmt="o-", capsize=2, label=label)
            axis.set(xscale="log", xlabel=f"{over}, relative", ylabel=metric_names.label(metric))
    grid[0, 0].legend(fontsize="small")
    return drawn


def answer(tables: StudyTables) -> str:
    """State the deterministic head's points per doubling, and RAU's minus these."""
    fits, main = tables.own["fits"], answers.metrics(tables)[0]
    told = []
    for over, every in fits.groupby("over", sort=False):
        metric = main if main in set(every.metric) else every.metric.iloc[0]
        first, second = every[every.metric == metric].to_dict("records")
        told.append(
            f"{interval_of(first, 'slope')} points of {metric_names.label(metric)} a doubling of "
            f"the {over}, RAU's minus these {interval_of(second, 'steeper')}"
        )
    return minus("; ".join(told))


STUDY = Study(
    "Scale: train queries, galleries, captions, correct answers",
    "How does it scale?",
    answer,
    METHODS[DETERMINISTIC].label,
    variants,
    figure,
    own=own,
    grids=grids,
    measures=("rau.studies.breakdown:kinds", "rau.studies.galleries:growing"),
)
