"""The report of the studies as one self-contained HTML file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd

from rau.datasets.coverage import Coverage
from rau.evaluation.diagnostics import Diagnostic
from rau.evaluation.run_metrics import DatasetLabel
from rau.methods import METHODS
from rau.params import Params
from rau.report.html import embed, mark, page_template, style
from rau.studies import plan
from rau.studies.tables import StudyTables

TEMPLATE = Path(__file__).with_name("study_page.html")
TITLES: Mapping[plan.Study, str] = {
    "methods": "Methods side by side",
    "ablation": "Ablation: ISU, CSU and DR on and off",
    "theta": "The threshold θ",
    "n": "The number n of blocks",
    "finetune": "Encoders trained along: which composer",
}
TRIALS = ("method", "chosen", "mean", "first", "changes")
# Header and format of every column.
Columns = Mapping[str, tuple[str, str]]
CSU: Columns = {
    "csu_added_per_row": ("extra positives per query", "{:.2f}"),
    "csu_share": ("share of all pairs", "{:.1%}"),
    "csu_precision": ("precision", "{:.1%}"),
    "csu_recall": ("recall", "{:.1%}"),
}
COSTS: Columns = {
    "parameters": ("parameters", "{:,.0f}"),
    "seconds": ("seconds of training", "{:.1f}"),
}
CHOSEN: Columns = {
    "tried": ("tried", "{}"),
    "start": ("params.yaml, seed 0", "{:.2f}"),
    "first": ("chosen, seed 0", "{:.2f}"),
    "mean": ("chosen, mean", "{:.2f}"),
    "changes": ("changes", "{}"),
}


@dataclass(frozen=True)
class Grid:
    """A table of formatted cells; the first column is the row's name."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    @classmethod
    def of(cls, corner: str, frame: pd.DataFrame, columns: Columns) -> Self:
        """Format these columns of a frame, a missing value as a dash."""
        forms = [form for _, form in columns.values()]
        rows = [
            [
                name,
                *(
                    "–" if pd.isna(v) else form.format(v)
                    for form, v in zip(forms, row, strict=True)
                ),
            ]
            for name, *row in frame[list(columns)].itertuples()
        ]
        return cls([corner, *(header for header, _ in columns.values())], rows)


def section(tables: StudyTables, figure: bytes, tried: pd.DataFrame) -> dict[str, Any]:
    """What the page shows of a study, by the template's names.

    Args:
        figure: PNG.
        tried: the tuning's trials, shown with the study of methods.
    """
    study = tables.document.study
    summary = tables.summary
    return {
        "title": TITLES[study],
        "document": tables.document,
        "figure": embed(figure),
        "tables": {p: table(own) for p, own in summary.groupby("protocol", sort=False)},
        "diagnostics": {k: _diagnostics(v) for k, v in tables.document.diagnostics.items()},
        "csu": csu(tables) if study == "theta" else None,
        "costs": costs(tables) if study in ("n", "methods", "finetune") else None,
        "trials": trials(tried) if study == "methods" else None,
    }


def about(
    params: Params, dataset: DatasetLabel, coverage: Coverage, encoder: Mapping[str, str]
) -> dict[str, str]:
    """What the figures were measured on, by name; `encoder` is the features' metadata."""
    return {
        "dataset": str(dataset),
        "coverage": str(coverage),
        "queries without images": params.evaluate.unusable,
        "encoder": f"{encoder['encoder']}, weights {encoder['weights']}",
        "epochs": f"at most {plan.base(params, plan.plan(params.study)).train.epochs}",
        "chosen by": f"{params.train.select} on the holdout",
    }


def table(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Rows of one protocol by variant and metric."""
    return {
        str(variant): dict(zip(own.metric, own.itertuples(), strict=True))
        for variant, own in rows.groupby("variant", sort=False)
    }


def _diagnostics(by_seed: Sequence[Sequence[Diagnostic]]) -> dict[str, str]:
    """The first one's evidence by each diagnostic's name and the number of seeds that show it."""
    found: dict[str, list[Diagnostic]] = {}
    for one in (one for seed in by_seed for one in seed):
        found.setdefault(one.name, []).append(one)
    return {
        f"{name} {len(ones)}/{len(by_seed)}": f"{ones[0].evidence}; {ones[0].remedy}"
        for name, ones in found.items()
    }


def _by_variant(tables: StudyTables, columns: Columns, statistic: str) -> Grid:
    """Statistics over seeds."""
    labels = [variant.label for variant in tables.document.variants]
    frame = tables.runs.groupby("variant")[list(columns)].agg(statistic)
    return Grid.of("variant", frame.loc[labels], columns)


def csu(tables: StudyTables) -> Grid:
    """Extra positives of each variant in the kept epoch, the mean over seeds."""
    return _by_variant(tables, CSU, "mean")


def costs(tables: StudyTables) -> Grid:
    """Number of parameters and seconds of training, the median over seeds."""
    return _by_variant(tables, COSTS, "median")


def trials(found: pd.DataFrame) -> Grid:
    """What each method's tuning tried and chose."""
    own = found.groupby("method", sort=False)
    won = found[found.chosen].set_index("method")
    changes = [", ".join(f"{k}={v}" for k, v in json.loads(c).items()) for c in won.changes]
    frame = won.assign(tried=own.size(), start=own["first"].first(), changes=changes)
    frame = frame.replace({"changes": {"": "none"}})
    return Grid.of("method", frame.rename(index=lambda name: METHODS[name].label), CHOSEN)


def render(about: Mapping[str, str], sections: Sequence[Mapping[str, Any]]) -> str:
    """The page; `about` says what the figures were measured on, by name."""
    template = page_template(TEMPLATE)
    return template.render(about=about, sections=sections, style=style(), mark=mark)
