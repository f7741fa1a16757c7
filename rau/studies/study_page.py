"""The report of the studies as one self-contained HTML file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rau.datasets.coverage import Coverage
from rau.evaluation.diagnostics import Diagnostic
from rau.evaluation.run_metrics import DatasetLabel
from rau.methods import METHODS
from rau.params import Params
from rau.report.html import embed, mark, page_template, style
from rau.studies import plan
from rau.studies.tables import StudyDocument, StudyTables

TEMPLATE = Path(__file__).with_name("study_page.html")
TITLES: Mapping[plan.Study, str] = {
    "methods": "Methods side by side",
    "ablation": "Ablation: ISU, CSU and DR on and off",
    "theta": "The threshold θ",
    "n": "The number n of blocks",
}
Cells = list[dict[str, str]]


@dataclass(frozen=True)
class StudySection:
    """A study on the page: its figure (base64 of a PNG) and tables, None where it has none.

    Attributes:
        tables: one per protocol, `table`'s result.
    """

    title: str
    document: StudyDocument
    figure: str
    tables: Sequence[Mapping[str, Any]]
    csu: Cells | None
    costs: Cells | None
    trials: Cells | None


# The columns of the tuning's trials.
TRIALS = ("method", "chosen", "mean", "first", "changes")


def section(tables: StudyTables, figure: bytes, tried: pd.DataFrame) -> StudySection:
    """The section of a study.

    Args:
        figure: PNG.
        tried: the tuning's trials, shown with the study of methods.
    """
    study = tables.document.study
    return StudySection(
        TITLES[study],
        tables.document,
        embed(figure),
        [table(tables, protocol) for protocol in tables.summary.protocol.unique()],
        csu(tables) if study == "theta" else None,
        costs(tables) if study in ("n", "methods") else None,
        trials(tried) if study == "methods" else None,
    )


def about(
    params: Params, dataset: DatasetLabel, coverage: Coverage, encoder: Mapping[str, str]
) -> dict[str, str]:
    """What the figures were measured on, by name; `encoder` is the features' metadata."""
    return {
        "dataset": str(dataset),
        "coverage": str(coverage),
        "queries without images": params.evaluate.unusable,
        "encoder": f"{encoder['encoder']}, weights {encoder['weights']}",
        "epochs": str(plan.base(params, plan.plan(params.study)).train.epochs),
        "chosen by": f"{params.train.select} on the holdout",
    }


def table(tables: StudyTables, protocol: str) -> dict[str, Any]:
    """Rows by variant, columns by metric: mean with interval and difference to the reference."""
    document = tables.document
    own = tables.summary[tables.summary.protocol == protocol]
    metrics = list(dict.fromkeys(own.metric))
    cells = own.set_index(["variant", "metric"])
    rows = []
    for label in (variant.label for variant in document.variants):
        rows.append(
            {
                "label": label,
                "reference": label == document.reference,
                "cells": [_cell(cells.loc[(label, metric)]) for metric in metrics],
                "diagnostics": _diagnostics(document.diagnostics[label]),
            }
        )
    return {"protocol": protocol, "metrics": metrics, "rows": rows}


def _cell(line: pd.Series) -> dict[str, str]:
    """A mean, its interval, and the difference to the reference with its stars."""
    gap = ""
    if not np.isnan(line.difference):
        gap = (
            f"{line.difference:+.2f} [{line.difference_low:+.2f}, {line.difference_high:+.2f}]"
            f"{mark(line.p_holm)}"
        )
    return {
        "mean": f"{line['mean']:.2f}",
        "interval": f"[{line.low:.2f}, {line.high:.2f}]",
        "gap": gap,
    }


def _diagnostics(by_seed: Sequence[Sequence[Diagnostic]]) -> Cells:
    """Each diagnostic with the number of seeds that show it, and the first one's evidence."""
    found: dict[str, list[Diagnostic]] = {}
    for seed in by_seed:
        for one in seed:
            found.setdefault(one.name, []).append(one)
    return [
        {
            "name": f"{name} {len(ones)}/{len(by_seed)}",
            "evidence": f"{ones[0].evidence}; {ones[0].remedy}",
        }
        for name, ones in found.items()
    ]


def csu(tables: StudyTables) -> Cells:
    """Extra positives of each variant in the last epoch, the mean over seeds."""
    rates = ("share", "precision", "recall")
    names = ["csu_added_per_row", *(f"csu_{rate}" for rate in rates)]
    means = tables.runs.groupby("variant")[names].mean()
    rows = []
    for label in (variant.label for variant in tables.document.variants):
        row = means.loc[label]
        cells = {"label": label, "added": f"{row.csu_added_per_row:.2f}"}
        for rate in rates:
            value = row[f"csu_{rate}"]
            cells[rate] = "–" if np.isnan(value) else f"{100 * value:.1f} %"
        rows.append(cells)
    return rows


def costs(tables: StudyTables) -> Cells:
    """Number of parameters and seconds of training, the median over seeds."""
    medians = tables.runs.groupby("variant")[["parameters", "seconds"]].median()
    own = medians.loc[[variant.label for variant in tables.document.variants]]
    return [
        {"label": label, "parameters": f"{int(parameters):,}", "seconds": f"{seconds:.1f}"}
        for label, parameters, seconds in own.itertuples()
    ]


def trials(found: pd.DataFrame) -> Cells:
    """What each method's tuning tried and chose."""
    rows = []
    for method, own in found.groupby("method", sort=False):
        won = own[own.chosen].iloc[0]
        rows.append(
            {
                "method": METHODS[str(method)].label,
                "tried": str(len(own)),
                "start": f"{own.iloc[0]['first']:.2f}",
                "first": f"{won['first']:.2f}",
                "mean": f"{won['mean']:.2f}",
                "changes": ", ".join(f"{k}={v}" for k, v in json.loads(won.changes).items())
                or "none",
            }
        )
    return rows


def render(about: Mapping[str, str], sections: Sequence[StudySection]) -> str:
    """The page; `about` says what the figures were measured on, by name."""
    return page_template(TEMPLATE).render(about=about, sections=sections, style=style())
