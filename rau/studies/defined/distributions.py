"""Alignment and oversmoothing of the distributions of queries and targets by DR."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from numpy.typing import NDArray

from rau.methods import DETERMINISTIC, METHODS
from rau.params import Params
from rau.report.numbers import minus
from rau.studies import answers, by_seed
from rau.studies.distances import EDGES, NUMBERS
from rau.studies.grid import Columns, Grid, interval
from rau.studies.plan import Plan, Tuned, Variant, parts, variant
from rau.studies.registry import Study
from rau.studies.runs import Result
from rau.studies.tables import StudyTables

MEASURE = "rau.studies.distances:spread"
# Least changes that count, if their interval excludes 0: of the distance of pairs relative to that
# of negatives, of the effective rank, and of the uniformity (0 = all means are equal).
NEARER, LOST_RANK, LOST_UNIFORMITY = -0.05, -0.1, 0.1
RATES = ("relative", "rank", "uniformity")
FORMS: Columns = {
    "pairs": ("W2² of pairs", "{:.3f}"),
    "negatives": ("of negatives", "{:.3f}"),
    "closer": ("negatives farther", "{:.3f}"),
    "overlap": ("overlap", "{:.3f}"),
    "alignment": ("alignment", "{:.3f}"),
    "uniformity_source": ("uniformity, queries", "{:.2f}"),
    "uniformity_target": ("images", "{:.2f}"),
    "rank_source": ("effective rank, queries", "{:.1f}"),
    "rank_target": ("images", "{:.1f}"),
    "variance_share": ("share of variances", "{:.3f}"),
}
NOTE = (
    "Val queries, headline's protocol; mean over seeds, then the paired difference to the "
    "reference with a 95 % t interval over seeds, none with one seed; stars are of paired t tests, "
    "adjusted by Holm's method for the variants of a column. Distances are squared 2-Wasserstein "
    "distances of the last block's Gaussians; negatives farther: share of a query's negatives that "
    "lie farther than its target; overlap: of both histograms."
)
VERDICT = (
    "Aligned: the distance of pairs relative to that of negatives falls by 5 % or more. "
    "Oversmoothed: the effective rank of queries or images falls by 10 % or more, or their "
    "uniformity rises by 0.1 or more; shown is the worse of both by the mean over seeds. A change "
    "counts only if its 95 % t interval over seeds excludes 0, which requires at least two seeds; "
    "oversmoothed takes precedence over aligned. Changes are relative to the reference. A variant "
    "that kept its start in every run has no verdict: its distributions are those of the weighted "
    "sum."
)
KINDS = ("query", "target", "true answer", "negative")
Results = Mapping[str, Sequence[Result]]
Floats = NDArray[np.float64]


def variants(params: Params, sizes: Plan, tuned: Tuned) -> list[Variant]:
    """Return the deterministic head, DR, ISU, and both."""
    rows = []
    for isu, dr in ((False, False), (False, True), (True, False), (True, True)):
        label, changes = parts(params, isu, False, dr)
        rows.append(variant(label, params, changes, ISU=isu, DR=dr))
    return rows


def own(found: Sequence[Variant], results: Results) -> dict[str, pd.DataFrame]:
    """Return the tables of `MEASURE`: numbers, changes, histograms, sigmas, and the plane.

    Changes are relative to the partner's run with the same seed. They are thus already paired, and
    only their means are tested.
    """
    reference = found[0].label
    partners = {v.label: v.partner or reference for v in found}
    values = {v.label: measured(results[v.label], "numbers") for v in found}
    rates = {label: _rates(own, values[partners[label]]) for label, own in values.items()}
    return {
        "numbers": by_seed.paired(values, NUMBERS, partners),
        "changes": by_seed.paired(rates, RATES, {label: label for label in rates}),
        "histograms": _long(
            found,
            results,
            {"pairs": "histogram_pairs", "negatives": "histogram_negatives"},
            "from",
            EDGES[:-1],
        ),
        "sigmas": _long(
            found, results, {"queries": "sigma_source", "images": "sigma_target"}, "dimension"
        ),
        "plane": pd.concat([_plane(v.label, results[v.label][0]) for v in found]),
    }


def measured(results: Sequence[Result], name: str) -> Floats:
    """Stack an array of `MEASURE` over all seeds."""
    return np.stack([result.extra[f"spread/{name}"] for result in results])


def _rates(values: Floats, reference: Floats) -> Floats:
    """Return changes to the reference's same seed, (seeds, 3), by `RATES`, of the worse side.

    It is one side for all seeds, by their mean: the worse side of each seed would seem to fall even
    if nothing changed.
    """
    place = NUMBERS.index

    def relative(of: Floats) -> Floats:
        return np.asarray(of[:, place("pairs")] / of[:, place("negatives")])

    nearer = relative(values) / relative(reference) - 1
    ranks, uniform = (
        [place(f"{name}_{side}") for side in ("source", "target")]
        for name in ("rank", "uniformity")
    )
    rank = values[:, ranks] / reference[:, ranks] - 1
    uniformity = values[:, uniform] - reference[:, uniform]
    worse = rank[:, rank.mean(0).argmin()], uniformity[:, uniformity.mean(0).argmax()]
    return np.stack([nearer, *worse], axis=1)


def _long(
    found: Sequence[Variant],
    results: Results,
    kinds: Mapping[str, str],
    axis: str,
    places: Floats | None = None,
) -> pd.DataFrame:
    """Return means over seeds of arrays of `MEASURE`, one row per entry."""
    tables = []
    for one in found:
        for kind, name in kinds.items():
            value = measured(results[one.label], name).mean(0)
            at = np.arange(len(value)) if places is None else places
            columns = {"variant": one.label, "kind": kind, axis: at, "value": value}
            tables.append(pd.DataFrame(columns))
    return pd.concat(tables)


def _plane(label: str, result: Result) -> pd.DataFrame:
    """Return the points and covariances of one run's plane."""
    mean, covariance, kind, query = (
        result.extra[f"spread/plane_{name}"] for name in ("mean", "covariance", "kind", "query")
    )
    columns = {"x": mean[:, 0], "y": mean[:, 1]}
    columns |= {f"{a}{b}": covariance[:, i, j] for (i, a), (j, b) in _CORNERS}
    return pd.DataFrame(
        {"variant": label, "kind": [KINDS[k] for k in kind], "query": query, **columns}
    )


_CORNERS = tuple(((i, "xy"[i]), (j, "xy"[j])) for i, j in ((0, 0), (0, 1), (1, 1)))


def judged(tables: StudyTables) -> dict[str, str]:
    """Return each variant's verdict, or that it kept its start in every run."""
    untrained = answers.starts_kept(tables)
    return {
        str(label): answers.START_KEPT if label in untrained else verdict(rows.set_index("name"))
        for label, rows in tables.own["changes"].groupby("variant", sort=False)
    }


def verdict(changes: pd.DataFrame) -> str:
    """Return aligned, oversmoothed or neither, from one variant's rows of `changes` by name."""

    def falls(name: str, limit: float, sign: int = 1) -> bool:
        row = changes.loc[name]
        far = sign * row["mean"] <= sign * limit
        return bool(far and (row["high"] < 0 if sign > 0 else row["low"] > 0))

    if falls("rank", LOST_RANK) or falls("uniformity", LOST_UNIFORMITY, -1):
        return "oversmoothed"
    return "aligned" if falls("relative", NEARER) else "neither"


def verdicts(tables: StudyTables) -> Grid:
    """Return a table of every variant's verdict and changes."""
    rows, told = [], judged(tables)
    for label, own_rows in tables.own["changes"].groupby("variant", sort=False):
        if label == tables.document.reference:
            continue
        found = own_rows.set_index("name")
        cells = [
            interval((found.loc[name, column] for column in ("mean", "low", "high")), form)
            for name, form in zip(RATES, ("{:+.1%}", "{:+.1%}", "{:+.3f}"), strict=True)
        ]
        rows.append([str(label), told[str(label)], *cells])
    return Grid(["variant", "verdict", "pairs", "rank", "uniformity"], rows, VERDICT)


def grids(tables: StudyTables) -> dict[str, Grid]:
    """Return the table of verdicts and the table of numbers behind them."""
    return {
        "Aligned, oversmoothed or neither": verdicts(tables),
        "Distances of distributions": by_seed.grid(tables.own["numbers"], FORMS, NOTE),
    }


def figure(tables: StudyTables) -> Figure:
    """Draw a row per variant: the plane of its means, its histograms, its sigmas."""
    labels = list(dict.fromkeys(tables.own["plane"].variant))
    drawn = Figure(figsize=(14, 3.6 * len(labels)), layout="constrained")
    axes = drawn.subplots(len(labels), 3, squeeze=False)
    for row, label in zip(axes, labels, strict=True):
        plane, histograms, sigmas = (
            table[table.variant == label]
            for table in (tables.own[name] for name in ("plane", "histograms", "sigmas"))
        )
        _draw_plane(row[0], plane)
        row[0].set(title=f"{label}: means and 2 σ, seed 0")
        for kind, own_rows in histograms.groupby("kind", sort=False):
            row[1].step(own_rows["from"], 100 * own_rows.value, where="post", label=str(kind))
        row[1].set(xlabel="squared 2-Wasserstein distance", ylabel="percent")
        for kind, own_rows in sigmas.groupby("kind", sort=False):
            row[2].plot(own_rows.dimension, own_rows.value, label=str(kind))
        row[2].set(xlabel="dimension, ordered", ylabel="mean σ", ylim=(0, None))
        row[1].legend(fontsize="small")
        row[2].legend(fontsize="small")
    return drawn


def _draw_plane(axis: Axes, plane: pd.DataFrame) -> None:
    """Draw queries connected to their targets, correct answers and negatives."""
    others = plane[plane.kind == "negative"]
    axis.plot(others.x, others.y, ".", color="0.8", markersize=3, label="negatives")
    for number, own_rows in plane[plane["query"] >= 0].groupby("query"):
        colour = f"C{int(str(number))}"
        for kind, marker in (("query", "o"), ("target", "*"), ("true answer", "+")):
            some = own_rows[own_rows.kind == kind]
            name = kind if number == 0 else None
            axis.plot(some.x, some.y, marker, color=colour, label=name, linestyle="none")
            for one in some.itertuples():
                if kind != "true answer":
                    axis.add_patch(_ellipse(one, colour))
        ends = own_rows[own_rows.kind.isin(["query", "target"])]
        axis.plot(ends.x, ends.y, "-", color=colour, linewidth=0.8)
    axis.legend(fontsize="x-small")


def _ellipse(row: Any, colour: str) -> Ellipse:
    """Return the ellipse of two standard deviations of a Gaussian in the plane."""
    values, axes = np.linalg.eigh([[row.xx, row.xy], [row.xy, row.yy]])
    height, width = 4 * np.sqrt(np.maximum(values, 0))
    angle = float(np.degrees(np.arctan2(axes[1, 1], axes[0, 1])))
    return Ellipse((row.x, row.y), width, height, angle=angle, fill=False, color=colour)


def answer(tables: StudyTables) -> str:
    """State each variant's verdict, change of pairs relative to negatives and effective rank."""
    grid = verdicts(tables)
    told = (
        f"{name} {said} (pairs {pairs} relative to negatives, effective rank {rank})"
        for name, said, pairs, rank, _ in grid.rows
    )
    recall = f"{answers.differing(tables)} in recall or mAP"
    return f"{minus('; '.join(told))}. {recall}"


STUDY = Study(
    "Distributions with and without DR",
    "Does DR align distributions, or oversmooth them?",
    answer,
    METHODS[DETERMINISTIC].label,
    variants,
    figure,
    own=own,
    grids=grids,
    measures=(MEASURE,),
)
