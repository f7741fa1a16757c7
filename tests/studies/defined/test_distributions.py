"""The verdict on what DR does to distributions."""

import pandas as pd
import pytest

from rau.studies.defined import distributions


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
