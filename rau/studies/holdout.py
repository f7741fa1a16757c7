"""Agreement of the rankings on the holdout, used for all selection, and on val."""

import pandas as pd

from rau.report.numbers import minus
from rau.studies.tables import StudyTables

# With fewer variants, a rank correlation is not meaningful.
FEWEST = 4
PREFIX = "holdout_"


def rank_correlation(tables: StudyTables) -> float | None:
    """Spearman's correlation of the variants' means over seeds on the holdout and on val.

    The metric is the one that selects epochs; on val it is taken under the headline's protocol.
    None if there are fewer than `FEWEST` variants, all are equal, or val does not have the metric.
    """
    means = _means(tables)
    if len(means) < FEWEST or (means.nunique() == 1).any():
        return None
    ranks = means.rank()
    return float(ranks.iloc[:, 0].corr(ranks.iloc[:, 1]))


def _means(tables: StudyTables) -> pd.DataFrame:
    """Means over seeds on the holdout and on val of the variants that have both."""
    runs, protocol = tables.runs, tables.summary.protocol.iloc[0]
    columns = [f"{side}{tables.document.select}" for side in (PREFIX, f"{protocol}.")]
    if not {*columns} <= {*runs}:
        return pd.DataFrame()
    return runs.groupby("variant")[columns].mean().dropna()


def said(tables: StudyTables) -> str:
    """Describe the correlation; empty if there is none."""
    found = rank_correlation(tables)
    if found is None:
        return ""
    count = len(_means(tables))
    return minus(
        f"Spearman's rank correlation of holdout and val over {count} variants: {found:.2f}"
    )
