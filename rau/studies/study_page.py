"""The report of the studies as one self-contained HTML file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from rau.datasets.coverage import Coverage
from rau.evaluation.diagnostics import Diagnostic
from rau.evaluation.run_metrics import DatasetLabel
from rau.methods import METHODS
from rau.params import Params
from rau.report.html import embed, page_template, svg
from rau.report.metric_names import label
from rau.report.svg import Plot, Point, forest
from rau.studies import figures, holdout, plan, registry
from rau.studies.grid import Columns, Grid
from rau.studies.tables import StudyTables

TEMPLATE = Path(__file__).with_name("study_page.html")
TRIALS = ("method", "chosen", "mean", "first", "changes")
TUNING = (
    "Every method that has something to train tries the same number of random configurations on "
    "the holdout, equal ones once; the first is that of params.yaml. The mean is over the "
    "finalists' seeds."
)
CHOSEN: Columns = {
    "tried": ("tried", "{}"),
    "start": ("params.yaml, seed 0", "{:.2f}"),
    "first": ("chosen, seed 0", "{:.2f}"),
    "mean": ("chosen, mean", "{:.2f}"),
    "changes": ("changes", "{}"),
}


def section(tables: StudyTables, figure: Figure, tried: pd.DataFrame | None) -> dict[str, Any]:
    """The content of a study's section, by the template's names.

    Args:
        figure: figure of the study; omitted if it shows the same values as the page's plots.
        tried: trials of the tuning, if the study depends on it.
    """
    study = registry.load(tables.document.study)
    grids = dict(study.grids(tables))
    if tried is not None:
        grids["What the tuning chose"] = trials(tried)
    summary = tables.summary
    drawn = study.figure is not figures.differences
    return {
        "title": study.title,
        "document": tables.document,
        "figure": embed(svg(figure)) if drawn else None,
        "plots": differences(tables),
        "tables": {p: table(own) for p, own in summary.groupby("protocol", sort=False)},
        "diagnostics": {k: _diagnostics(v) for k, v in tables.document.diagnostics.items()},
        "trained": trained(tables),
        "paired": any(v.partner for v in tables.document.variants),
        "grids": grids,
    }


def differences(tables: StudyTables) -> list[Plot]:
    """Plot paired differences to the reference in the headline metric, one plot per protocol."""
    summary, reference = tables.summary, tables.document.reference
    plots = []
    for protocol, own in summary.groupby("protocol", sort=False):
        metric = plan.headline(set(own.metric))
        rows = own[(own.metric == metric) & own.difference.notna()].to_dict("records")
        points = [
            Point(
                str(row["variant"]),
                row["difference"],
                (row["difference_low"], row["difference_high"]),
                p=row["p_holm"],
            )
            for row in rows
        ]
        title = f"{protocol}: {label(metric)} against {reference}"
        plots.append(forest(title, points, "points", signed=True))
    return plots


def trained(tables: StudyTables) -> str:
    """Describe a study's trainings: longest one, trained encoders, rank correlation with val.

    Regimes with less data train for more epochs.
    """
    runs = tables.runs
    found = [f"longest training {runs.epochs.max():.0f} epochs"] if "epochs" in runs else []
    if registry.load(tables.document.study).encoders:
        found.append("every run trains an encoder, starting from `data/encoder`")
    return "; ".join(filter(None, [*found, holdout.said(tables)]))


def about(
    params: Params, dataset: DatasetLabel, coverage: Coverage, encoder: Mapping[str, str]
) -> dict[str, str]:
    """Describe data, encoder and model selection, by name; `encoder` is the features' metadata."""
    return {
        "dataset": str(dataset),
        "coverage": str(coverage),
        "queries without images": params.evaluate.unusable,
        "encoder of the features": f"{encoder['encoder']}, weights {encoder['weights']}",
        "chosen by": f"{label(params.train.select)} on the holdout",
    }


def table(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Index the rows of one protocol by variant and metric."""
    return {
        str(variant): dict(zip(own.metric, own.itertuples(), strict=True))
        for variant, own in rows.groupby("variant", sort=False)
    }


def _diagnostics(by_seed: Sequence[Sequence[Diagnostic]]) -> dict[str, str]:
    """Evidence and remedy of each diagnostic, by its name and the share of seeds that show it."""
    found: dict[str, list[Diagnostic]] = {}
    for one in (one for seed in by_seed for one in seed):
        found.setdefault(one.name, []).append(one)
    return {
        f"{name} {len(ones)}/{len(by_seed)}": f"{ones[0].evidence}; {ones[0].remedy}"
        for name, ones in found.items()
    }


def trials(found: pd.DataFrame) -> Grid:
    """Table of each method's tried and chosen configurations."""
    own = found.groupby("method", sort=False)
    won = found[found.chosen].set_index("method")
    changes = [", ".join(f"{k}={v}" for k, v in json.loads(c).items()) for c in won.changes]
    frame = won.assign(tried=own.size(), start=own["first"].first(), changes=changes)
    frame = frame.replace({"changes": {"": "none"}})
    named = frame.rename(index=lambda name: METHODS[name].label)
    return Grid.of("method", named, CHOSEN, TUNING)


def render(about: Mapping[str, str], sections: Sequence[Mapping[str, Any]]) -> str:
    """Render the page; `about` is the result of the function `about`."""
    template = page_template(TEMPLATE)
    return template.render(about=about, sections=sections)
