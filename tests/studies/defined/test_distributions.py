"""The verdict on what DR does to distributions."""

from types import SimpleNamespace
from typing import cast

import pandas as pd
import pytest

from rau.studies import answers
from rau.studies.defined import distributions
from rau.studies.tables import StudyTables


def changes(relative: float, rank: float, uniformity: float, half: float = 0.01) -> pd.DataFrame:
    rows = dict(zip(distributions.RATES, (relative, rank, uniformity), strict=True))
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["mean"])
    return table.assign(low=table["mean"] - half, high=table["mean"] + half)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (changes(-0.2, 0.0, 0.0), "aligned"),
        (changes(-0.04, 0.0, 0.0), "neither"),
        (changes(-0.2, 0.0, 0.0, half=0.3), "neither"),
        (changes(-0.2, -0.2, 0.0), "oversmoothed"),
        (changes(0.2, 0.0, 0.2), "oversmoothed"),
        (changes(0.2, 0.1, -0.2), "neither"),
    ],
)
def test_verdict_by_its_thresholds(found: pd.DataFrame, expected: str) -> None:
    assert distributions.verdict(found) == expected


def test_a_head_that_kept_its_start_in_every_run_has_no_verdict() -> None:
    smoothed = changes(-0.2, -0.2, 0.0).rename_axis("name").reset_index()
    tables = SimpleNamespace(
        own={"changes": pd.concat([smoothed.assign(variant=name) for name in ("kl", "mmd")])},
        runs=pd.DataFrame({"variant": ["kl", "kl", "mmd", "mmd"], "best_epoch": [0, 0, 0, 7]}),
    )
    told = distributions.judged(cast(StudyTables, tables))
    found = [told[name] for name in ("kl", "mmd")]
    assert found == [answers.START_KEPT, "oversmoothed"]
