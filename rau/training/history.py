"""The history of a training as a table: one row per epoch, blank where a value is unknown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rau.errors import UserError
from rau.schemas import read_csv

# The columns of every history; those of the holdout depend on what is known of the data.
COLUMNS = (
    *("epoch", "loss", "base", "csu", "dr", "sigma_source", "sigma_target", "gradient_norm"),
    *("csu_added_per_row", "csu_share", "csu_precision", "csu_recall", "temperature", "lr"),
)


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys as CSV."""
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")


def columns(rows: Sequence[Mapping[str, Any]] | pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Columns by name of rows with the same keys, NaN where a value is None."""
    return {str(k): v.to_numpy(np.float64) for k, v in pd.DataFrame(rows).items()}


def summary(history: Mapping[str, NDArray[np.float64]], kept: int) -> dict[str, float | None]:
    """Summary of a training: the values of the epoch `kept` except the holdout's, None where
    unknown, the number of epochs, and the gradient norm in the first epoch and its maximum.

    Raises:
        UserError: when the history is of another training.
    """
    if kept not in history["epoch"]:
        raise UserError(
            f"the history has no epoch {kept}, which the head is of; run "
            "`python -m pipeline.train` again"
        )
    row = int(np.flatnonzero(history["epoch"] == kept)[0])
    found = {k: float(v[row]) for k, v in history.items() if not k.startswith("holdout_")}
    found["epochs"] = float(history["epoch"][-1])
    norms = history["gradient_norm"]
    known = norms[np.isfinite(norms)]
    found["gradient_norm_first"] = float(known[0]) if len(known) else np.nan
    found["gradient_norm_max"] = float(known.max()) if len(known) else np.nan
    return {name: value if np.isfinite(value) else None for name, value in found.items()}


def read_history(path: Path, stage: str = "train") -> dict[str, NDArray[np.float64]]:
    """Columns by name, NaN where blank; `stage` is the one that wrote it.

    Raises:
        UserError: when the file is missing or not such a table.
    """
    remedy = f"run `python -m pipeline.{stage}` again"
    table = read_csv(path, COLUMNS, remedy, np.float64)
    found = columns(table)
    first = found["epoch"][0]
    if first not in (0, 1) or not np.array_equal(found["epoch"], first + np.arange(len(table))):
        raise UserError(f"{path}: epochs are not numbered; {remedy}")
    return found
