"""Numbers of which every run has one: means over seeds and paired differences."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rau.evaluation import bootstrap
from rau.report.html import mark
from rau.studies.grid import Grid, interval_of

Floats = NDArray[np.float64]
COLUMNS = ["variant", "name", "mean", "low", "high"]
COLUMNS += ["difference", "difference_low", "difference_high", "p", "p_holm"]


def paired(
    values: Mapping[str, Floats], names: Sequence[str], partners: Mapping[str, str]
) -> pd.DataFrame:
    """A row per variant and number, with 95 % intervals and paired tests by Student's t.

    A bootstrap of a few seeds alone has too few distinct resamples for an interval or a p-value.

    Args:
        values: by variant, (seeds, numbers), seed s of one paired with seed s of the others.
        names: of the numbers.
        partners: which variant each is compared with; one that is its own has no difference.

    Returns:
        `COLUMNS`; `p_holm` is adjusted by Holm's method for the variants of a number. One seed has
        neither intervals nor p-values.
    """
    rows = []
    for label, own in values.items():
        means, low, high, _ = _student(own)
        gaps = np.stack(_student(own - values[partners[label]]), axis=1)
        if partners[label] == label:
            gaps[:] = np.nan
        for place, name in enumerate(names):
            line = label, name, means[place], low[place], high[place]
            rows.append((*line, *gaps[place], np.nan))
    table = pd.DataFrame(rows, columns=COLUMNS)
    for _, tested in table[table.p.notna()].groupby("name"):
        table.loc[tested.index, "p_holm"] = bootstrap.holm(list(tested.p))
    return table


def _student(values: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Means of values (seeds, numbers), both ends of their 95 % intervals, and p-values for a mean
    of 0, (numbers,) each; p is NaN where all values are 0."""
    from scipy.special import stdtr, stdtrit

    mean, freedom = values.mean(0), len(values) - 1
    if freedom == 0:
        unknown = np.full_like(mean, np.nan)
        return mean, unknown, unknown, unknown
    error = values.std(0, ddof=1) / np.sqrt(len(values))
    reach = stdtrit(freedom, 0.975) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stdtr(freedom, -abs(mean / error))
    return mean, mean - reach, mean + reach, p


def grid(table: pd.DataFrame, forms: Mapping[str, tuple[str, str]], note: str) -> Grid:
    """The numbers of `paired` as a table of means, with differences and their intervals below.

    Args:
        forms: heading and format of each number that is shown.
    """
    rows = []
    for label, own in table.groupby("variant", sort=False):
        by_name = own.set_index("name").to_dict("index")
        cells = [_cell(by_name[name], form) for name, (_, form) in forms.items()]
        rows.append([str(label), *cells])
    return Grid(["variant", *(heading for heading, _ in forms.values())], rows, note)


def _cell(row: Mapping[Any, Any], form: str) -> str:
    """A mean, and its difference to the partner where it has one."""
    if pd.isna(row["mean"]):
        return "–"
    mean = form.format(row["mean"])
    if pd.isna(row["difference"]):
        return mean
    gap = interval_of(row, "difference", form.replace(":", ":+"))
    return f"{mean}; {gap}{mark(row['p_holm'])}"
