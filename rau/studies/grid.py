"""Tables of formatted cells for the page of studies."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import pandas as pd

from rau.report.numbers import minus
from rau.studies.tables import StudyTables

# Header and format of each column.
Columns = Mapping[str, tuple[str, str]]
# Suffixes of the columns with a value and the ends of its interval.
ENDS = ("", "_low", "_high")
COSTS: Columns = {
    "parameters": ("parameters", "{:,.0f}"),
    "seconds": ("seconds of training", "{:.1f}"),
    "best_epoch": ("kept epoch", "{:.0f}"),
}
UNADJUSTED = "Not adjusted for the number of comparisons."
KEPT = "Medians over seeds. Epoch 0 is the start: the holdout found no epoch better."


@dataclass(frozen=True)
class Grid:
    """A table below a note; the first cell of each row is its name."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    @property
    def described(self) -> str:
        """The note, and that intervals are not adjusted, unless it says whether they are."""
        cells = [cell for row in (self.header, *self.rows) for cell in row]
        intervals = any("[" in cell or cell.startswith("95 %") for cell in cells)
        silent = intervals and "adjusted" not in self.note
        return " ".join([self.note, UNADJUSTED] if silent else [self.note]).strip()

    @property
    def typeset(self) -> list[list[str]]:
        """The rows with typographic minus signs."""
        return [[minus(cell) for cell in row] for row in self.rows]

    @classmethod
    def of(cls, corner: str, frame: pd.DataFrame, columns: Columns, note: str = "") -> Self:
        """Format the given columns of a frame; a missing value becomes a dash."""
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
        return cls([corner, *(header for header, _ in columns.values())], rows, note)


def interval(ends: Iterable[Any], form: str = "{:+.2f}") -> str:
    """Format a value and its interval, if it has one; empty if the value is missing."""
    value, low, high = ends
    if pd.isna(value):
        return ""
    told = form.format(value)
    return told if pd.isna(low) else f"{told} [{form.format(low)}, {form.format(high)}]"


def interval_of(row: Mapping[Any, Any], name: str, form: str = "{:+.2f}") -> str:
    """Apply `interval` to the columns `name`, `name_low` and `name_high` of a row."""
    return interval((row[f"{name}{end}"] for end in ENDS), form)


def by_variant(tables: StudyTables, columns: Columns, statistic: str, note: str = "") -> Grid:
    """A statistic over seeds of the given columns of the table of runs."""
    labels = [variant.label for variant in tables.document.variants]
    frame = tables.runs.groupby("variant")[list(columns)].agg(statistic)
    return Grid.of("variant", frame.loc[labels], columns, note)


def costs(tables: StudyTables) -> Grid:
    """Number of parameters, training time in seconds and kept epoch: medians over seeds."""
    return by_variant(tables, COSTS, "median", KEPT)
