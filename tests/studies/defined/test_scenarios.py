"""The map of where θ and n help."""

import pandas as pd

from rau.studies.defined import scenarios


def test_the_map_says_what_is_clear() -> None:
    table = pd.DataFrame(
        {
            "setting": ["θ 0.6", "n 2", "n 0"],
            "fraction": 1.0,
            "noise": 0.0,
            "difference": [0.5, -1.0, 2.0],
            "low": [-0.1, -2.0, 1.0],
            "high": [1.0, -0.5, 3.0],
            "says": ["", "hurts", "helps"],
        }
    )
    (row,) = scenarios.rule(table).rows
    assert row[1:3] == ["n 0", "n 2"]
