"""Numbers of which every run has one: means over seeds and paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rau.evaluation import bootstrap
from rau.report.html import mark
from rau.studies.grid import Grid, interval_of

RESAMPLES = 10_000
COLUMNS = ["variant", "name", "mean", "low", "high"]
COLUMNS += ["difference", "difference_low", "difference_high", "p", "p_holm"]


def paired(
    values: Mapping[str, NDArray[np.float64]], names: Sequence[str], partners: Mapping[str, str]
) -> pd.DataFrame:
    """A row per variant and number, with 95 % intervals by bootstrap over seeds.

    Args:
        values: by variant, (seeds, numbers), seed s of one paired with seed s of the others.
        names: of the numbers.
        partners: which variant each is compared with; one that is its own has no difference.

    Returns:
        `COLUMNS`; `p_holm` is adjusted by Holm's method for the variants of a number.
    """
    sides = {label: {"": own[:, None, :]} for label, own in values.items()}
    one = {"": np.zeros(1, dtype=np.int64)}
    rows = []
    for label, side in sides.items():
        ends = bootstrap.intervals(side, one, RESAMPLES, bootstrap.SEED)[bootstrap.MEAN]
        means = bootstrap.means(side, one)
        other = sides[partners[label]]
        gaps = bootstrap.differences(side, other, one, RESAMPLES, bootstrap.SEED)[bootstrap.MEAN]
        for place, name in enumerate(names):
            gap = astuple(gaps[place]) if partners[label] != label else (np.nan,) * 4
            rows.append((label, name, means[place], ends[0][place], ends[1][place], *gap, np.nan))
    table = pd.DataFrame(rows, columns=COLUMNS)
    for _, own in table[table.p.notna()].groupby("name"):
        table.loc[own.index, "p_holm"] = bootstrap.holm(list(own.p))
    return table


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
