"""Files of a study, read by its report: tables of runs and of means, and a typed record."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypedDict, cast

import pandas as pd
from pydantic import Field

from rau.evaluation.diagnostics import Diagnostic
from rau.files import write_json, write_text
from rau.params import Section
from rau.schemas import read_csv

MAX_BYTES = 64 * 2**20
RUN_COLUMNS = ("variant", "seed", "run", "head", "theta", "theta_quantile", "n")
DOCUMENT, RUNS, SUMMARY = "study.json", "runs.csv", "summary.csv"


class Statistics(TypedDict):
    """The values of a row of the summary, in percent; NaN for a variant without a partner.

    Attributes:
        mean, low, high: mean over seeds and its interval.
        difference, difference_low, difference_high: paired difference to the partner.
        p, p_holm: p-value of the difference, plain and adjusted by Holm.
    """

    mean: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float
    p: float
    p_holm: float


SUMMARY_COLUMNS = ["variant", "protocol", "metric", *Statistics.__annotations__]


def statistics(rows: pd.DataFrame) -> dict[str, Statistics]:
    """Rows of the summary by their index."""
    return {str(name): cast(Statistics, row) for name, row in rows.to_dict("index").items()}


class VariantRecord(Section):
    """A variant of a study.

    Attributes:
        label: name in tables.
        x: position on the study's axes, by name.
        params: name of its run with seed 0 in the run store.
        partner: label of the variant that it is compared with, if that is not the reference.
    """

    label: str
    x: dict[str, bool | int | float | str | None]
    params: str
    partner: str | None = None


class StudyDocument(Section):
    """The content of `study.json`.

    Attributes:
        seeds: number of seeds per variant.
        reference: label of the variant that variants without a partner are compared with.
        diagnostics: by variant and seed.
        own: names of the study's additional tables.
        code: `study.code_digest` of the code that made the tables; empty in older files.
        select: metric on the holdout that selected the epochs; empty in older files.
        cosines: fraction of pairs in each bin of `plan.EDGES`, by variant and kind of pair.
    """

    study: str
    preset: str
    seeds: int
    reference: str
    variants: list[VariantRecord]
    diagnostics: dict[str, list[list[Diagnostic]]]
    cosines: dict[str, dict[str, list[float]]]
    own: list[str] = Field(default_factory=list)
    code: str = ""
    select: str = ""


@dataclass(frozen=True)
class StudyTables:
    """The results of a study.

    Attributes:
        runs: one row per run.
        summary: one row per variant, protocol and metric.
        own: the study's additional tables, by name.
    """

    runs: pd.DataFrame
    summary: pd.DataFrame
    document: StudyDocument
    own: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write all files, each atomically."""
        write_text(folder / RUNS, self.runs.to_csv(index=False))
        write_text(folder / SUMMARY, self.summary.to_csv(index=False))
        for name, table in self.own.items():
            write_text(folder / f"{name}.csv", table.to_csv(index=False))
        write_json(folder / DOCUMENT, self.document.model_dump(mode="json"))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read what `write` wrote.

        Raises:
            UserError: if a file is missing, too large or malformed.
        """
        remedy = f"run `python -m pipeline.study {folder.name}` again"
        document = StudyDocument.read_json(folder / DOCUMENT, MAX_BYTES, remedy)
        runs = read_csv(folder / RUNS, RUN_COLUMNS, remedy)
        summary = read_csv(folder / SUMMARY, SUMMARY_COLUMNS, remedy)
        own = {name: read_csv(folder / f"{name}.csv", (), remedy) for name in document.own}
        return cls(runs, summary, document, own)
