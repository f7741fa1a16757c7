"""The verdict on what DR does to distributions."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import pandas as pd
import pytest

from rau.studies import answers, by_seed
from rau.studies.defined import distributions
from rau.studies.distances import NUMBERS
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


def changed(rng: np.random.Generator, fall: float = 0.0) -> pd.DataFrame:
    """Changes of five seeds whose ranks and uniformities vary, the ranks of images by `fall`."""
    reference = np.ones((5, len(NUMBERS)))
    values = reference + 0.1 * rng.normal(size=reference.shape)
    values[:, NUMBERS.index("rank_target")] -= fall
    rates = distributions._rates(values, reference)
    table = by_seed.paired({"a": rates}, distributions.RATES, {"a": "a"})
    return table.set_index("name")


def test_chance_is_rarely_a_change_of_the_worse_side() -> None:
    tables = [changed(np.random.default_rng(seed)) for seed in range(600)]
    # One of twenty, where the side is one of two and only falls, or only rises, count.
    assert np.mean([one.high["rank"] < 0 for one in tables]) < 0.08
    assert np.mean([one.low["uniformity"] > 0 for one in tables]) < 0.08


def test_the_side_that_falls_is_the_one_that_is_judged() -> None:
    table = changed(np.random.default_rng(0), fall=0.6)
    assert table["mean"]["rank"] == pytest.approx(-0.6, abs=0.1)
    assert distributions.verdict(table) == "oversmoothed"
