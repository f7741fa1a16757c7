"""Means over seeds and paired differences of numbers measured once per run."""

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
    """Compute 95 % intervals and paired t tests, one row per variant and number.

    A bootstrap over a few seeds has too few distinct resamples for an interval or a p-value.

    Args:
        values: (seeds, numbers) by variant; the same seed of two variants is paired.
        names: names of the numbers.
        partners: the variant that each is compared with; if that is itself, it has no difference.

    Returns:
        `COLUMNS`; `p_holm` is adjusted by Holm's method for the variants of a number. With one
        seed there are no intervals or p-values.
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
    """Return means of (seeds, numbers), ends of 95 % intervals and p-values for a mean of 0.

    Each has shape (numbers,). p is NaN if all values are 0.
    """
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
    """Format the result of `paired` as a table of means, differences and intervals.

    Args:
        forms: heading and format of each shown number.
    """
    rows = []
    for label, own in table.groupby("variant", sort=False):
        by_name = own.set_index("name").to_dict("index")
        cells = [_cell(by_name[name], form) for name, (_, form) in forms.items()]
        rows.append([str(label), *cells])
    return Grid(["variant", *(heading for heading, _ in forms.values())], rows, note)


def _cell(row: Mapping[Any, Any], form: str) -> str:
    """Format a mean and, if there is one, its difference to the partner."""
    if pd.isna(row["mean"]):
        return "–"
    mean = form.format(row["mean"])
    if pd.isna(row["difference"]):
        return mean
    gap = interval_of(row, "difference", form.replace(":", ":+"))
    return f"{mean}; {gap}{mark(row['p_holm'])}"
