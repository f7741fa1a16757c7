"""The studies' report: one HTML file that needs no network."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rau.methods import METHODS
from rau.report.html import embed, mark, page_template, style

TEMPLATE = Path(__file__).with_name("study_page.html")
TITLES: Mapping[str, str] = {
    "methods": "Methods side by side",
    "ablation": "Ablation: ISU, CSU and DR on and off",
    "theta": "The threshold θ",
    "n": "The number n of blocks",
}
LABELS: Mapping[str, str] = {name: method.label for name, method in METHODS.items()}
Document = Mapping[str, Any]


def table(summary: pd.DataFrame, document: Document, protocol: str) -> dict[str, Any]:
    """Rows by variant, columns by metric: mean with interval, marked where it differs."""
    own = summary[summary.protocol == protocol]
    metrics = list(dict.fromkeys(own.metric))
    cells = own.set_index(["variant", "metric"])
    rows = []
    for variant in document["variants"]:
        label = variant["label"]
        rows.append(
            {
                "label": label,
                "reference": label == document["reference"],
                "cells": [_cell(cells.loc[(label, metric)]) for metric in metrics],
                "diagnostics": _diagnostics(document["diagnostics"][label]),
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


def _diagnostics(by_seed: Sequence[Sequence[Mapping[str, str]]]) -> list[dict[str, str]]:
    """Each diagnostic with how many seeds show it, and the first one's evidence."""
    found: dict[str, list[Mapping[str, str]]] = {}
    for seed in by_seed:
        for one in seed:
            found.setdefault(one["name"], []).append(one)
    return [
        {
            "name": f"{name} {len(ones)}/{len(by_seed)}",
            "evidence": f"{ones[0]['evidence']}; {ones[0]['remedy']}",
        }
        for name, ones in found.items()
    ]


def csu(runs: pd.DataFrame, document: Document) -> list[dict[str, str]]:
    """Extra positives of each variant, the mean over seeds of the last epoch."""
    names = ["csu_added_per_row", "csu_share", "csu_precision", "csu_recall"]
    means = runs.groupby("variant")[names].mean()
    rows = []
    for variant in document["variants"]:
        row = means.loc[variant["label"]]
        rates = ["–" if np.isnan(row[n]) else f"{100 * row[n]:.1f} %" for n in names[1:]]
        rows.append(
            dict(
                zip(
                    ["label", "added", "share", "precision", "recall"],
                    [variant["label"], f"{row.csu_added_per_row:.2f}", *rates],
                    strict=True,
                )
            )
        )
    return rows


def costs(runs: pd.DataFrame, document: Document) -> list[dict[str, str]]:
    """Weights and seconds of training, the median of the seeds."""
    medians = runs.groupby("variant")[["parameters", "seconds"]].median()
    return [
        {
            "label": v["label"],
            "parameters": f"{int(medians.loc[v['label'], 'parameters']):,}",
            "seconds": f"{medians.loc[v['label'], 'seconds']:.1f}",
        }
        for v in document["variants"]
    ]


def trials(found: pd.DataFrame) -> list[dict[str, str]]:
    """What each method's tuning tried and chose."""
    rows = []
    for method, own in found.groupby("method", sort=False):
        won = own[own.chosen].iloc[0]
        rows.append(
            {
                "method": LABELS[str(method)],
                "tried": str(len(own)),
                "start": f"{own.iloc[0]['first']:.2f}",
                "first": f"{won['first']:.2f}",
                "mean": f"{won['mean']:.2f}",
                "changes": ", ".join(f"{k}={v}" for k, v in json.loads(won.changes).items())
                or "none",
            }
        )
    return rows


def render(about: Mapping[str, str], sections: Sequence[Mapping[str, Any]]) -> str:
    """The page.

    Args:
        about: what the figures were measured on, by name.
        sections: one a study: title, document, tables, figure (PNG), csu, costs, trials.
    """
    shown = [{**section, "figure": embed(section["figure"])} for section in sections]
    return page_template(TEMPLATE).render(about=about, sections=shown, style=style())
