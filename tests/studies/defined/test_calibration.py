"""Predictors of success by hand, and what the study says where the truth is known."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from rau.methods import METHODS
from rau.report.numbers import minus
from rau.studies import confidence_tables, learned_confidence
from rau.studies.confidence_tables import COSINE, MAIN, SIGMA, Evidence, agreement, category_rates
from rau.studies.defined import calibration
from rau.studies.evidence import COMPONENTS, FREE, free
from rau.studies.tables import StudyTables

QUERIES = 600


def test_free_predictors_by_hand() -> None:
    scores = np.full((2, 60), np.nan, np.float32)
    scores[0, :60] = 0.5 - np.arange(60) / 200
    scores[1, :3] = 0.4, 0.4, 0.1
    found = dict(
        zip(
            FREE,
            free(
                scores,
                0.1,
                np.array([0.04, 0.09], np.float32),
                np.array([0.01, 0.16], np.float32),
                np.array([5, 9]),
            ).T,
            strict=True,
        )
    )
    assert found[COSINE] == pytest.approx([0.5, 0.4])
    assert found["margin"] == pytest.approx([0.005, 0], abs=1e-6)
    # A gallery of three has its last answer in the place of the fiftieth.
    assert found["drop to the 50th"] == pytest.approx([0.245, 0.3])
    weights = np.exp([0, 0, -3])
    shares = weights / weights.sum()
    assert found["entropy"][1] == pytest.approx((shares * np.log(shares)).sum())
    assert found["mass of the first 1"][1] == pytest.approx(shares[0])
    assert found["mass of the first 5"][1] == pytest.approx(1)
    assert found[SIGMA] == pytest.approx([-0.04, -0.09])
    assert found["σ² of query and top-1"] == pytest.approx([-0.05, -0.25])
    assert found["text length"].tolist() == [-5, -9]


def test_agreement_and_rates_by_hand() -> None:
    one, other = (
        np.array([[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]]),
        np.array([[5, 4, 3, 2, 1], [1, 6, 7, 8, 9]]),
    )
    third = np.array([[6, 7, 8, 9, 10], [1, 2, 6, 7, 8]])
    found = agreement([one, other, third])
    assert found[0].tolist() == pytest.approx([(1 + 0) / 2, (1 / 9 + 2 / 8) / 2])
    assert found[2].tolist() == pytest.approx([0, (2 / 8 + 4 / 6) / 2])
    held = [{"category": np.array([0, 0, 1])}, {"category": np.array([1])}]
    hits = [np.array([1.0, 0, 1]), np.array([0.0])]
    assert category_rates(held, hits, 3).tolist() == [0.5, 0.5, 0]


def side(rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Queries whose hits follow one component of the text and a little of the drop."""
    drop, hidden = rng.standard_normal((2, QUERIES))
    rank = np.ceil(
        400 / (1 + np.exp(2 * hidden + 0.5 * drop + rng.standard_normal(QUERIES) / 2)) ** 2
    )
    table = rng.standard_normal((QUERIES, len(FREE)))
    table[:, FREE.index("drop to the 50th")] = drop
    inputs = rng.standard_normal((QUERIES, 2 * COMPONENTS))
    inputs[:, 3] = hidden
    return {
        "free": table,
        "rank": rank.astype(np.int64),
        "gallery": np.full(QUERIES, 400),
        "precision": 1 / rank,
        "answers": np.exp(1 + hidden / 2),
        "top": rng.integers(0, 50, (QUERIES, 5)),
        "category": rng.integers(0, 2, QUERIES),
        "query": np.arange(QUERIES),
        "inputs": inputs,
    }


def test_a_query_that_all_seeds_hold_out_is_never_fitted_and_judged() -> None:
    # Nothing can be learned: the strongest penalty is best, unless a query is in both parts.
    rng = np.random.default_rng(0)
    rows, hits = rng.standard_normal((200, 60)), (rng.random(200) < 0.5).astype(np.float64)
    seed = {"free": rows, "category": np.zeros(200, np.int64), "query": np.arange(200)}
    fit, strengths = learned_confidence._logistic, learned_confidence.STRENGTHS
    stacked = learned_confidence._Rows.of([seed] * 3, [hits] * 3, features=False, count=1)
    assert learned_confidence._best(fit, strengths, stacked) == strengths[0]


@pytest.fixture(scope="module")
def found() -> Iterator[pd.DataFrame]:
    """The table of two seeds that rank the same val queries."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(confidence_tables, "RESAMPLES", 40)
        yield _table()


def _table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    val = side(rng)
    extras = [
        {
            f"evidence/{name}/{k}": v
            for name, own in (("val", val), ("holdout", side(rng)))
            for k, v in own.items()
        }
        for _ in range(2)
    ]
    return confidence_tables.table("head", Evidence.of(extras, ["dress", "shirt"]))


def row(found: pd.DataFrame, predictor: str, measure: str, label: str = MAIN) -> pd.Series:
    rows = found[(found.predictor == predictor) & (found.measure == measure)]
    return rows[(rows.label == label) & (rows.category == "all")].iloc[0]


def test_what_is_learned_beats_what_is_free_where_there_is_something_to_learn(
    found: pd.DataFrame,
) -> None:
    best = row(found, "drop to the 50th", "AUROC")
    learned = row(found, "logistic, with features", "AUROC")
    assert learned["mean"] > best["mean"] + 0.1
    assert learned.difference_low > 0.1
    over = row(found, "logistic, with features", confidence_tables.OVER_FREE)
    assert over["mean"] == pytest.approx(learned["mean"] - best["mean"], abs=1e-5)
    assert over.low > 0.05
    assert row(found, "evidential, probability", "AUROC")["mean"] > best["mean"] + 0.1
    assert row(found, "logistic, free", "AUROC")["mean"] == pytest.approx(best["mean"], abs=0.05)
    assert row(found, "number of answers, predicted", "AUROC")["mean"] < 0.3
    for predictor in (COSINE, SIGMA, "σ² shuffled", "agreement of seeds", "category"):
        assert row(found, predictor, "AUROC")["mean"] == pytest.approx(0.5, abs=0.06), predictor


def test_a_table_is_whole_and_the_cosine_has_no_difference(found: pd.DataFrame) -> None:
    assert set(found.label) == {*confidence_tables.LABELS, "lists"}
    assert found[found.predictor == COSINE].difference.isna().all()
    binned = found.measure.isin(confidence_tables.WITHOUT_INTERVAL)
    assert found[binned].drop(columns="mean").isna().sum(axis=1).eq(5).all()
    ends = found[~binned]
    assert ends[["low", "high"]].notna().all(axis=None)
    for name, side in (("mean", ""), ("difference", "difference_")):
        there = ends.dropna(subset=name)
        inside = there[name].between(there[f"{side}low"] - 1e-6, there[f"{side}high"] + 1e-6)
        assert inside.mean() > 0.95
    assert "AUROC" not in set(found[found.label == "average precision"].measure)
    # Probabilities need a map from the holdout, which agreement does not have.
    assert set(found[found.measure == "ECE"].predictor) >= {COSINE, "logistic, with features"}
    assert "agreement of seeds" not in set(found[found.measure == "ECE"].predictor)
    assert row(found, COSINE, "ECE")["mean"] < 0.08
    for level in (0.9, 0.95):
        coverage = row(found, COSINE, f"coverage {level:.0%}", "lists")
        assert coverage["mean"] == pytest.approx(level, abs=0.03)
    lists = found[(found.label == "lists") & (found.measure == "length 90%")]
    assert set(lists.category) == {"all", "dress", "shirt"}


def answer(**over_free: tuple[float, float, float]) -> str:
    """Of a free predictor with an AUROC of 0.65, and of these over it."""
    areas = {SIGMA: 0.5, COSINE: 0.6, "drop to the 50th": 0.65}
    rows: list[tuple[Any, ...]] = [(name, "AUROC", area, 0, 0) for name, area in areas.items()]
    rows += [(name, confidence_tables.OVER_FREE, *ends) for name, ends in over_free.items()]
    others = [name for name in FREE if name not in areas]
    rows += [(name, "AUROC", 0.4, 0, 0) for name in others]
    table = pd.DataFrame(rows, columns=["predictor", "measure", "mean", "low", "high"])
    table = table.assign(variant=METHODS["rau"].label, label=MAIN, category="all")
    return calibration.answer(cast(StudyTables, SimpleNamespace(own={"confidence": table})))


def test_the_answer_reports_what_is_learned_where_it_loses() -> None:
    known = {"logistic, free": (-0.02, -0.03, -0.01), confidence_tables.TRUE: (0.3, 0.2, 0.4)}
    assert answer(**known) == minus(
        "AUROC 0.500 by σ, 0.650 by drop to the 50th; learned, over that: "
        "logistic, free -0.020 [-0.030, -0.010]"
    )
    assert answer(**{COSINE: (-0.05, -0.06, -0.04)}).endswith("by drop to the 50th")


def test_measures_of_bins_have_no_interval_on_the_page(found: pd.DataFrame) -> None:
    for predictor in (COSINE, SIGMA):
        for measure in confidence_tables.WITHOUT_INTERVAL:
            mean = row(found, predictor, measure)
            assert calibration._cell(mean) == f"{mean['mean']:.3f}"
        assert "[" in calibration._cell(row(found, predictor, "Brier"))
