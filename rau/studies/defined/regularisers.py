"""Comparison of the 2-Wasserstein distance for DR with other divergences, tuned equally."""

from collections.abc import Mapping, Sequence
from typing import get_args

import pandas as pd
from matplotlib.figure import Figure

from rau.params import Params, UaParams
from rau.report import metric_names
from rau.studies import answers
from rau.studies.defined import distributions
from rau.studies.figures import pick, reach
from rau.studies.grid import Columns, Grid, interval
from rau.studies.plan import Plan, Preset, Tuned, Variant, headline, variant
from rau.studies.registry import Study
from rau.studies.runs import Result
from rau.studies.tables import StudyTables

NONE = "no DR"
NAMES: tuple[str, ...] = get_args(UaParams.model_fields["dr"].annotation)
WEIGHTS: Mapping[Preset, tuple[float, ...]] = {
    "smoke": (0.1,),
    "quick": (0.001, 0.01, 0.1, 1.0),
    "full": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
}
STABILITY: Columns = {
    "failed": ("failed runs", "{:.0f}"),
    "gradient_norm_first": ("gradient norm, first epoch", "{:.3g}"),
    "gradient_norm": ("kept epoch", "{:.3g}"),
    "gradient_norm_max": ("largest of all epochs and seeds", "{:.3g}"),
    "sigma_source": ("σ, queries", "{:.3f}"),
    "sigma_target": ("σ, images", "{:.3f}"),
}
CHOSEN = (
    "Of each divergence the weight with the best mean over seeds on the holdout, as many tried for "
    "each; val chose nothing. A weight at the end of the grid may not be the best one. Differences "
    "on val to no DR, with 95 % intervals; p adjusted for all variants of the table above."
)


def variants(params: Params, sizes: Plan, tuned: Tuned) -> list[Variant]:
    """Return RAU without DR, then with every divergence at every weight."""
    rows = [variant(NONE, params, {"head.name": "rau", "ua.dr_weight": 0.0})]
    for name in NAMES:
        for weight in WEIGHTS[sizes.preset]:
            changes = {"head.name": "rau", "ua.dr": name, "ua.dr_weight": weight}
            rows.append(variant(f"{name} {weight:g}", params, changes, dr=name, dr_weight=weight))
    return rows


def own(
    found: Sequence[Variant], results: Mapping[str, Sequence[Result]]
) -> dict[str, pd.DataFrame]:
    """Return the tables of the study `distributions`, and holdout metrics by divergence."""
    rows = []
    for one in found[1:]:
        by_seed = results[one.label]
        name = f"holdout_{by_seed[0].params['train.select']}"
        values = [result.summary[name] or 0.0 for result in by_seed]
        rows.append((one.label, one.x["dr"], one.x["dr_weight"], sum(values) / len(values)))
    columns = ["variant", "dr", "dr_weight", "holdout"]
    return {
        **distributions.own(found, results),
        "holdout": pd.DataFrame(rows, columns=columns),
    }


def chosen(tables: StudyTables) -> Grid:
    """Return the weight of each divergence chosen on the holdout, and its metrics on val."""
    table = tables.own["holdout"]
    best = table[table.variant.isin(winners(tables))]
    protocol = tables.summary.protocol.iloc[0]
    known = set(tables.summary.metric)
    metrics = [m for m in ("mean_of_r10_r50", "mean_of_r5_rs1", "map") if m in known]
    rows, told = [], distributions.judged(tables)
    for one in best.to_dict("records"):
        cells = [f"{one['dr_weight']:g}", f"{one['holdout']:.2f}"]
        for metric in metrics:
            gap = pick(tables.summary, protocol, metric).loc[one["variant"]]
            ends = (gap.difference, gap.difference_low, gap.difference_high)
            cells.append(f"{interval(ends)} p {gap.p_holm:.2g}")
        rows.append([one["dr"], *cells, told[one["variant"]]])
    header = ["divergence", "weight", "holdout", *map(metric_names.label, metrics), "distributions"]
    return Grid(header, rows, CHOSEN)


def stability(tables: StudyTables) -> Grid:
    """Return a table of gradient norms and failed runs of every variant."""
    runs = tables.runs
    failed = runs.failure.notna() if "failure" in runs else pd.Series(False, index=runs.index)
    own_rows = runs.assign(failed=failed).groupby("variant", sort=False)
    names = [name for name in STABILITY if name != "failed"]
    frame = (
        own_rows[names]
        .mean()
        .assign(failed=own_rows.failed.sum(), gradient_norm_max=own_rows.gradient_norm_max.max())
    )
    return Grid.of("variant", frame, STABILITY, "Means over seeds unless said.")


def grids(tables: StudyTables) -> dict[str, Grid]:
    """Return tables of the choices on the holdout, of stability, and of the distributions."""
    return {
        "Tuned equally": chosen(tables),
        "Stability": stability(tables),
        **distributions.grids(tables),
    }


def figure(tables: StudyTables) -> Figure:
    """Plot differences to no DR, separation of distributions and gradient norms by weight."""
    summary, numbers = tables.summary, tables.own["numbers"]
    protocol = summary.protocol.iloc[0]
    drawn = Figure(figsize=(17, 4), layout="constrained")
    axes = drawn.subplots(1, 4)
    known = set(summary.metric)
    main = headline(known)
    largest = tables.runs.groupby("variant").gradient_norm_max.max()
    closer = numbers[numbers.name == "closer"].set_index("variant")
    for place, (name, own_rows) in enumerate(tables.own["holdout"].groupby("dr", sort=False)):
        labels, x = list(own_rows.variant), own_rows.dr_weight * 1.04**place
        for axis, metric in zip(axes[:2], (main, "map"), strict=True):
            if metric not in known:
                continue
            rows = pick(summary, protocol, metric).loc[labels]
            ends = reach(rows, "difference")
            axis.errorbar(x, rows.difference, yerr=ends, fmt="o-", capsize=2, label=name)
            axis.set(
                title=f"{protocol}: {metric_names.label(metric)}",
                ylabel="difference to no DR, points",
            )
        axes[2].plot(x, closer.loc[labels, "mean"], "o-", label=name)
        axes[3].plot(x, largest.loc[labels], "o-", label=name)
    axes[2].set(title="share of negatives farther than the target")
    axes[3].set(title="largest gradient norm", yscale="log")
    for axis in axes:
        axis.set(xscale="log", xlabel="weight")
    axes[0].legend(fontsize="x-small")
    return drawn


def winners(tables: StudyTables) -> list[str]:
    """Return the variant of every divergence that was chosen on the holdout."""
    table = tables.own["holdout"]
    return list(table.loc[table.groupby("dr", sort=False).holdout.idxmax()].variant)


def answer(tables: StudyTables) -> str:
    """State which divergences differ from no DR, at the weight chosen on the holdout."""
    by_variant, chosen_ones = answers.rows(tables), winners(tables)
    most = max(chosen_ones, key=lambda variant: by_variant[variant]["difference"])
    told = f"{answers.differing(tables, chosen_ones)} from no DR"
    return f"{told}. Largest: {most}, {answers.ends(by_variant[most])}"


STUDY = Study(
    "Regularisers: divergences in place of the 2-Wasserstein distance",
    "Is the 2-Wasserstein distance the right one for DR?",
    answer,
    NONE,
    variants,
    figure,
    own=own,
    grids=grids,
    measures=(distributions.MEASURE,),
    counts_failures=True,
)
