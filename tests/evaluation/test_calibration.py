"""Probabilities come true on queries that they were not fitted on, and damaged ones are refused."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from rau.errors import UserError
from rau.evaluation import calibration
from rau.evaluation.calibration import Calibration, Lists, fit, shares_of
from rau.evaluation.calibration_check import measure, measure_val, to_csv
from rau.features.table import Features
from rau.models.baselines import WeightedSum
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.tasks import build_task
from rau.schemas import GalleryRow, QueryRow

TEMPERATURE = 0.05


def synthetic(seed: int, queries: int, gallery: int = 300, spread: float = 0.12) -> Lists:
    """Scores of which the softmax at `TEMPERATURE` is the truth: the wanted is drawn from it."""
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.02, spread, (queries, 1))
    scores = -np.sort(-rng.standard_normal((queries, gallery)) * scale, axis=1).astype(np.float32)
    chance = np.diff(shares_of(scores, TEMPERATURE), axis=1, prepend=0)
    right = np.zeros((queries, gallery), np.bool_)
    for row, own in enumerate(chance):
        right[row, rng.choice(gallery, p=own / own.sum())] = True
    return Lists(scores, right, np.full(queries, gallery))


def test_what_is_fitted_comes_true_elsewhere() -> None:
    found = fit(synthetic(0, 2000), "head", "made")
    assert found is not None
    assert found.temperature == pytest.approx(TEMPERATURE, rel=0.15)
    figures = measure(found, synthetic(1, 2000))
    # Of 15 bins of 133 queries, noise alone is about 0.035.
    assert max(figures.ece.values()) < 0.06
    assert figures.coverage == pytest.approx(0.9, abs=0.025)
    for k, rate in figures.rate.items():
        assert figures.mean_probability[k] == pytest.approx(rate, abs=0.03)
        assert (figures.auroc[k] or 0) > 0.55
    assert figures.length is not None
    assert 1 < figures.length < 300
    assert (figures.fitted_on, figures.gallery) == (2000, 300)
    for k, bins in figures.reliability.items():
        assert sum(one.queries for one in bins) == 2000
        gap = sum(abs(one.probability - one.rate) * one.queries for one in bins) / 2000
        assert figures.ece[k] == pytest.approx(gap, abs=2e-4)
    drawn = pd.read_csv(io.StringIO(to_csv(figures)))
    assert drawn["rate_at_10"].tolist() == [one.rate for one in figures.reliability["10"]]
    assert pd.read_csv(io.StringIO(to_csv(None))).columns.equals(drawn.columns)


def test_scores_that_say_nothing_get_the_mean() -> None:
    lists = synthetic(0, 2000)
    rng = np.random.default_rng(2)
    right = np.zeros_like(lists.right)
    right[np.arange(2000), rng.integers(0, 300, 2000)] = True
    found = fit(Lists(lists.scores, right, lists.sizes), "head", "made")
    assert found is not None
    confidence = found.confidence(lists.scores[0])
    assert confidence.probability_at_k[50] == pytest.approx(50 / 300, abs=0.08)
    assert confidence.probability_at_k[1] < 0.02
    assert confidence.prediction_set_size is None or confidence.prediction_set_size > 200


def test_a_probability_never_falls_with_k_and_is_never_certain() -> None:
    found = fit(synthetic(3, 150), "head", "made")
    assert found is not None
    probabilities, shares = found.probabilities(synthetic(4, 200).scores)
    assert (np.diff(probabilities, axis=1) >= 0).all()
    assert probabilities.min() > 0
    assert probabilities.max() < 1
    assert (np.diff(shares, axis=1) >= 0).all()
    one = found.confidence(synthetic(4, 200).scores[7])
    assert [*one.probability_at_k.values()] == pytest.approx(probabilities[7].tolist())


def test_the_shortest_list_is_split_conformal() -> None:
    lists = synthetic(5, 199)
    found = fit(lists, "head", "made")
    assert found is not None
    assert found.threshold is not None
    _, shares = found.probabilities(lists.scores)
    covered = lists.first <= found.lengths(shares)
    # ceil(0.9 (n + 1)) of the n queries themselves are covered.
    assert covered.sum() >= 180
    assert covered.sum() <= 182


def test_few_queries_are_no_calibration() -> None:
    assert fit(synthetic(0, calibration.MIN_QUERIES - 1), "head", "made") is None
    assert fit(synthetic(0, calibration.MIN_QUERIES), "head", "made") is not None


def test_what_is_in_no_list_leaves_no_list_long_enough() -> None:
    lists = synthetic(0, 300)
    right = lists.right.copy()
    right[:60] = False
    found = fit(Lists(lists.scores, right, lists.sizes), "head", "made")
    assert found is not None
    assert found.threshold is None
    assert found.confidence(lists.scores[0]).prediction_set_size is None
    assert measure(found, lists).length is None


@pytest.mark.parametrize("queries", range(150, 160))
def test_shares_that_hardly_differ_make_a_map(queries: int) -> None:
    rng = np.random.default_rng(queries)
    # One list of scores for all, as where the caption alone decides; and those of a sure head:
    # its shares are 1 but for the last digits.
    same = np.repeat(-np.sort(rng.uniform(0, 0.2, (1, 60)), axis=1), queries, axis=0)
    sure = -0.03 - np.sort(rng.uniform(0, 0.3, (queries, 60)), axis=1)
    sure[:, 0] = 0
    for scores, first in ((same, rng.integers(0, 9, queries)), (sure, np.zeros(queries, int))):
        right = np.arange(60) == first[:, None]
        lists = Lists(scores.astype(np.float32), right, np.full(queries, 60))
        found = fit(lists, "head", "made")
        assert found is not None
        rate = (first == 0).mean()
        probability = found.confidence(lists.scores[0]).probability_at_k[1]
        assert probability == pytest.approx(rate, abs=0.03)


def test_it_does_not_apply_to_other_galleries() -> None:
    found = fit(synthetic(0, 200), "head", "made")
    assert found is not None
    assert found.inapplicable("made", 300) is None
    assert found.inapplicable("made", 750) is None
    assert "300, this one has 751" in str(found.inapplicable("made", 751))
    assert "300, this one has 119" in str(found.inapplicable("made", 119))
    assert "fitted on made, not on shop" in str(found.inapplicable("shop", 300))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"temperature": 0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"threshold": 2}, "threshold"),
        ({"queries": 3}, "queries"),
        ({"format": "rau-calibration-9"}, "format"),
        ({"maps": {}}, "not .1, 5, 10, 50."),
        ({"maps.1.share": [0.5, 0.1], "maps.1.probability": [0.1, 0.2]}, "not monotone"),
        ({"maps.5.probability": [0.5]}, "differ in length"),
        ({"maps.5.probability": [7.0] * 2}, "less than or equal"),
        ({"maps.5.share": [0.1] * 99}, "at most"),
        ({"more": 1}, "more"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    found = fit(synthetic(0, 200), "head", "made")
    assert found is not None
    path = tmp_path / calibration.FILE
    found.write(path)
    assert Calibration.read(path) == found
    values = json.loads(path.read_text())
    for name, value in changed.items():
        *way, last = name.split(".")
        place = values
        for key in way:
            place = place[key]
        place[last] = value
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match=rf"calibration.json.*{said}|{said}.*train again"):
        Calibration.read(path)


def test_it_is_the_one_of_the_head_beside(tmp_path: Path) -> None:
    assert Calibration.beside(tmp_path, "head") is None
    found = fit(synthetic(0, 200), "head", "made")
    assert found is not None
    found.write(tmp_path / calibration.FILE)
    assert Calibration.beside(tmp_path, "head") == found
    with pytest.raises(UserError, match="of another head; remove it, or train again"):
        Calibration.beside(tmp_path, "other")


def test_any_right_answer_counts_and_the_reference_is_none() -> None:
    rng = np.random.default_rng(0)
    ids = [f"i{number}" for number in range(30)]
    images = rng.standard_normal((30, 8)).astype(np.float32)
    images[5] = images[4]  # A duplicate: both are equally good, the first is listed first.
    texts = rng.standard_normal((3, 8)).astype(np.float32)
    about = {"space": "shared"}
    features = FeatureSet.on(
        torch.device("cpu"), Features(ids, images, about), Features(["a", "b", "c"], texts, about)
    )
    queries: list[QueryRow] = [
        {
            "query_id": str(row),
            "split": "train",
            "category": "all",
            "reference_id": ids[row],
            "target_id": target,
            "captions": [caption],
            "members": None,
            "relevant": relevant,
        }
        for row, (caption, target, relevant) in enumerate(
            [("a", "i9", ["i9", "i4", "i5"]), ("b", "i5", ["i5"]), ("c", "gone", ["i7"])]
        )
    ]
    task = build_task("all", queries, [*ids, "gone"], "forward", True, features)
    lists = Lists.of([task], WeightedSum(0.5), features)
    # The third has no target among the images; the reference is taken out.
    assert lists.scores.shape == (2, 30)
    assert lists.sizes.tolist() == [29, 29]
    assert lists.right.sum(1).tolist() == [3, 1]
    assert np.isnan(lists.scores[:, 29:]).all()
    assert not np.isnan(lists.scores[:, :29]).any()
    assert (lists.first > 0).all()


def test_a_hit_on_val_is_what_it_was_in_fitting() -> None:
    rng = np.random.default_rng(1)
    ids = [f"i{number}" for number in range(300)]
    images = rng.standard_normal((300, 8)).astype(np.float32)
    about = {"space": "shared"}
    texts = Features(["a"], rng.standard_normal((1, 8)).astype(np.float32), about)
    features = FeatureSet.on(torch.device("cpu"), Features(ids, images, about), texts)

    def query(row: int, split: str, relevant: list[str] | None) -> QueryRow:
        return {
            "query_id": f"{split}-{row}",
            "split": split,
            "category": "all",
            "reference_id": ids[row],
            "target_id": ids[-1 - row],
            "captions": ["a"],
            "members": None,
            "relevant": relevant,
        }

    galleries: list[GalleryRow] = [
        {"gallery": "original", "category": "all", "image_id": name} for name in ids
    ]
    fitted = fit(synthetic(0, 400), "head", "data")
    assert fitted is not None
    # Of val all is known: every other image answers too.
    val = [query(row, "val", ids[1::2]) for row in range(100)]
    known = [*val, query(0, "train", ids[1::2])]
    alone = [*val, query(0, "train", None)]
    method = WeightedSum(0.5)
    every, target = (measure_val(fitted, method, q, galleries, features) for q in (known, alone))
    assert every is not None
    assert target is not None
    assert every.rate["1"] > 0.4
    assert target.rate["1"] < 0.1
