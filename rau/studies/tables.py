"""What a study writes and its report reads: tables of runs and of means, and a typed record."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pandas as pd

from rau.evaluation.diagnostics import Diagnostic
from rau.files import write_json, write_text
from rau.params import Section
from rau.schemas import read_csv
from rau.studies.plan import Study

MAX_BYTES = 64 * 2**20
RUN_COLUMNS = ("variant", "seed", "run", "head", "theta", "theta_quantile", "n")
SUMMARY_COLUMNS = ["variant", "protocol", "metric", "mean", "low", "high"]
SUMMARY_COLUMNS += ["difference", "difference_low", "difference_high", "p", "p_holm"]
DOCUMENT, RUNS, SUMMARY = "study.json", "runs.csv", "summary.csv"


class VariantRecord(Section):
    """A variant of a study.

    Attributes:
        label: as tables print it.
        x: its position on the study's axes, by name.
        params: name of its run with seed 0 in the run store.
    """

    label: str
    x: dict[str, bool | int | float | None]
    params: str


class StudyDocument(Section):
    """What `study.json` says beside the tables.

    Attributes:
        seeds: how many every variant is trained with.
        reference: label of the variant that the others are compared with; in `finetune` that of
            the whole data, and each regime has its own.
        diagnostics: by variant and seed.
        cosines: by variant and kind of pair, the fraction of pairs in each of `plan.EDGES`' bins.
    """

    study: Study
    preset: str
    seeds: int
    reference: str
    variants: list[VariantRecord]
    diagnostics: dict[str, list[list[Diagnostic]]]
    cosines: dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class StudyTables:
    """The results of a study.

    Attributes:
        runs: one row per run.
        summary: one row per variant, protocol and metric.
    """

    runs: pd.DataFrame
    summary: pd.DataFrame
    document: StudyDocument

    def write(self, folder: Path) -> None:
        """Write all three files, each whole or not at all."""
        write_text(folder / RUNS, self.runs.to_csv(index=False))
        write_text(folder / SUMMARY, self.summary.to_csv(index=False))
        write_json(folder / DOCUMENT, self.document.model_dump(mode="json"))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read what `write` wrote.

        Raises:
            UserError: when a file is missing, too large or of another form.
        """
        remedy = f"run `python -m pipeline.study {folder.name}` again"
        document = StudyDocument.read_json(folder / DOCUMENT, MAX_BYTES, remedy)
        runs = read_csv(folder / RUNS, RUN_COLUMNS, remedy)
        summary = read_csv(folder / SUMMARY, SUMMARY_COLUMNS, remedy)
        return cls(runs, summary, document)
