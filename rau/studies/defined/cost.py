"""Costs of every method in training and at test time, compared with its metrics."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rau.methods import DETERMINISTIC, METHODS
from rau.params import Params
from rau.report import metric_names
from rau.studies.costs import IMAGES, NUMBERS, WIDTHS
from rau.studies.figures import panels, pick
from rau.studies.grid import Columns, Grid
from rau.studies.plan import Plan, Preset, Tuned, Variant, variant
from rau.studies.registry import Study
from rau.studies.runs import Result
from rau.studies.tables import StudyTables

# Values of `ua.n` and `ua.samples` that RAU is measured with, in addition to the configured ones.
BLOCKS: Mapping[Preset, tuple[int, ...]] = {"smoke": (2,), "quick": (0, 2, 4), "full": (0, 2, 4, 6)}
SAMPLES: Mapping[Preset, tuple[int, ...]] = {"smoke": (4,), "quick": (4,), "full": (2, 4, 16)}
FORMS: Columns = {
    "parameters": ("parameters", "{:,.0f}"),
    "step_flops": ("GFLOPs a step", "{:.2f}"),
    "step_seconds": ("ms a step", "{:.1f}"),
    "step_bytes": ("MiB at the peak", "{:.1f}"),
    "query_flops": ("MFLOPs a query", "{:.2f}"),
    "image_flops": ("MFLOPs an image", "{:.2f}"),
    "query_seconds": ("µs a query", "{:.1f}"),
    "image_seconds": ("µs an image", "{:.1f}"),
    "rank_seconds": ("µs to rank", "{:.1f}"),
    "more_flops": ("query FLOPs over deterministic", "{:+.1%}"),
    "ratio": ("encoding time over deterministic", "{:.2f}"),
    "ratio_low": ("least", "{:.2f}"),
    "ratio_high": ("most", "{:.2f}"),
}
UNITS = {
    "step_flops": 1e-9,
    "step_seconds": 1e3,
    "step_bytes": 2**-20,
    **dict.fromkeys(("query_flops", "image_flops"), 1e-6),
    **dict.fromkeys(("query_seconds", "image_seconds", "rank_seconds"), 1e6),
}
NOTE = (
    "Random features that share a space. FLOPs are counted, bytes are those of all live tensors; "
    f"a query is ranked among {IMAGES:,} images. Times are medians on this machine, and are "
    "disturbed where runs are executed at once (study.jobs). The deterministic head that FLOPs "
    "and times are compared with has as many blocks, but no layer of the variance, which ours "
    "computes whatever it was trained for; both encode in turns, of which the ratios are the "
    "median, least and most."
)


def variants(params: Params, sizes: Plan, tuned: Tuned) -> list[Variant]:
    """Return every method, then RAU by n and by samples."""
    rows = [variant(method.label, params, {"head.name": n}) for n, method in METHODS.items()]
    for name, values in (("n", BLOCKS), ("samples", SAMPLES)):
        rows += [
            variant(
                f"{METHODS['rau'].label}, {name} = {value}",
                params,
                {"head.name": "rau", f"ua.{name}": value},
                **{name: value},
            )
            for value in values[sizes.preset]
        ]
    return rows


def own(
    found: Sequence[Variant], results: Mapping[str, Sequence[Result]]
) -> dict[str, pd.DataFrame]:
    """Return the measured costs of every variant and dimension of the features."""
    rows = []
    for one in found:
        extra = results[one.label][0].extra
        for place, width in enumerate(WIDTHS):
            numbers = dict(zip(NUMBERS, extra["cost/numbers"][place], strict=True))
            ratio = extra["cost/ratio"][place]
            theirs = numbers.pop("partner_query_flops")
            more = numbers["query_flops"] / theirs - 1 if theirs else np.nan
            ends = {"ratio": np.median(ratio), "ratio_low": ratio.min(), "ratio_high": ratio.max()}
            row = {"variant": one.label, "width": width, **numbers, "more_flops": more, **ends}
            rows.append(row)
    return {"cost": pd.DataFrame(rows)}


def grids(tables: StudyTables) -> dict[str, Grid]:
    """Return a table per dimension of the features."""
    table = tables.own["cost"]
    table = table.assign(**{name: table[name] * unit for name, unit in UNITS.items()})
    return {
        f"Features of {width} dimensions": Grid.of(
            "variant", table[table.width == width].set_index("variant"), FORMS, NOTE
        )
        for width in WIDTHS
    }


def figure(tables: StudyTables) -> Figure:
    """Plot mAP against the cost of a training step and of a query, at the middle dimension."""
    drawn, axes = panels(2, 5)
    summary, table = tables.summary, tables.own["cost"]
    metric = "map" if "map" in set(summary.metric) else "recall_at_10"
    protocol = summary.protocol.iloc[0]
    found = pick(summary, protocol, metric)["mean"]
    width = WIDTHS[len(WIDTHS) // 2]
    costs = table[table.width == width].set_index("variant")
    for axis, name in zip(axes, ("step_seconds", "query_flops"), strict=True):
        title, _ = FORMS[name]
        for label in found.index:
            x = costs.loc[label, name] * UNITS[name]
            axis.plot(x, found[label], "o", color="#1f5fa8")
            axis.annotate(label, (x, found[label]), fontsize="xx-small")
        axis.set(
            xlabel=f"{title}, width {width}",
            ylabel=f"{metric_names.label(metric)}, protocol {protocol}",
        )
    return drawn


def answer(tables: StudyTables) -> str:
    """State RAU's FLOPs, time and memory relative to the deterministic head, middle dimension."""
    table = tables.own["cost"]
    at = table[table.width == WIDTHS[len(WIDTHS) // 2]].set_index("variant")
    ours, theirs = at.loc[METHODS["rau"].label], at.loc[METHODS[DETERMINISTIC].label]
    more = {name: ours[name] / theirs[name] - 1 for name in ("step_flops", "step_bytes")}
    return (
        f"At test time {ours.more_flops:+.1%} FLOPs a query and {ours.ratio:.2f} × the time; in "
        f"training {more['step_flops']:+.0%} FLOPs and {more['step_bytes']:+.0%} memory"
    )


STUDY = Study(
    "Cost of every method",
    "What does uncertainty cost?",
    answer,
    METHODS[DETERMINISTIC].label,
    variants,
    figure,
    own,
    grids,
    measures=("rau.studies.costs:cost",),
)
