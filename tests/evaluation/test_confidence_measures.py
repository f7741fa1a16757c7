"""Measures of confidence against scikit-learn, closed forms and figures worked out by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, roc_auc_score

from rau.evaluation import confidence_measures as cm
from rau.evaluation.confidence_measures import Ordered

Floats = NDArray[np.float64]
ONE = np.ones((1, 4))


def synthetic(seed: int, count: int, values: int) -> tuple[Floats, Floats, Floats]:
    """Scores with ties, labels that follow them, and counts of three resamples."""
    rng = np.random.default_rng(seed)
    score = rng.integers(0, values, count) / values
    label = (rng.random(count) < score).astype(np.float64)
    weights = rng.multinomial(count, np.full(count, 1 / count), 3).astype(np.float64)
    return score, label, weights


def measured(score: Floats, label: Floats, weights: Floats) -> dict[str, Floats]:
    """Every measure of the order."""
    return cm.of_order(score, label, weights, cm.least_aurc(label, weights))


@pytest.mark.parametrize("values", [5, 10_000])
def test_weights_are_repeated_queries(values: int) -> None:
    score, label, weights = synthetic(0, 300, values)
    for row in weights:
        times = row.astype(int)
        again, hits = np.repeat(score, times), np.repeat(label, times)
        ones = np.ones((1, len(again)))
        whole, repeated = (
            measured(score, label, row[None]),
            measured(again, hits, ones),
        )
        assert whole["AUROC"][0] == pytest.approx(roc_auc_score(hits, again))
        assert cm.brier(score, label, row[None])[0] == pytest.approx(brier_score_loss(hits, again))
        # A query that was drawn twice may end one bin and begin the next.
        assert cm.ece(score, label, row[None])[0] == pytest.approx(
            cm.ece(again, hits, ones)[0], abs=0.03
        )
        for name in ("R²", "Spearman", "AURC", "at 80 %"):
            assert whole[name][0] == pytest.approx(repeated[name][0], abs=0.05), name


def test_risk_and_coverage_by_hand() -> None:
    score, label = np.array([0.9, 0.8, 0.7, 0.6]), np.array([1.0, 0.0, 1.0, 0.0])
    # Risks of the surest 1 to 4: 0, 1/2, 1/3, 1/2; of the best order 0, 0, 1/3, 1/2.
    found = measured(score, label, ONE)
    assert found["AURC"][0] == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert found["excess AURC"][0] == pytest.approx(1 / 8)
    assert measured(label, label, ONE)["excess AURC"][0] == 0
    ordered = Ordered.of(score, label, ONE)
    at = [cm.at_coverage(ordered, share)[0] for share in (0.25, 0.5, 0.75, 1.0)]
    assert at == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])
    # Without weight the second query is not there.
    without = Ordered.of(score, label, np.array([[1.0, 0.0, 1.0, 1.0]]))
    assert cm.aurc(without)[0] == pytest.approx((0 + 0 + 1 / 3) / 3)


def test_equal_scores_are_in_random_order() -> None:
    rng = np.random.default_rng(1)
    score, label = np.array([2.0, 1, 1, 1, 0]), np.array([0.0, 1, 0, 1, 1])
    ones = np.ones((1, 5))
    drawn = [measured(score + rng.random(5) / 10, label, ones) for _ in range(2000)]
    found = measured(score, label, ones)
    for name in ("AUROC", "AURC", "at 80 %"):
        mean = np.mean([one[name] for one in drawn])
        assert found[name][0] == pytest.approx(mean, abs=0.01), name
    assert np.isnan(measured(score, np.ones(5), ones)["AUROC"][0])
    assert "AUROC" not in measured(score, label / 2, ones)


def test_bins_of_a_score_that_is_the_rate() -> None:
    rng = np.random.default_rng(2)
    score = rng.random(20_000)
    label, ones = (rng.random(20_000) < score).astype(np.float64), np.ones((1, 20_000))
    found = measured(score, label, ones)
    assert found["Spearman"][0] == 1
    assert measured(-score, label, ones)["Spearman"][0] == -1
    assert found["R²"][0] > 0.99
    assert cm.ece(score, label, ones)[0] < 0.02
    # The rate is a half.
    assert cm.ece(np.full(20_000, 0.8), label, ones)[0] == pytest.approx(0.3, abs=0.02)
    fitted = cm.isotonic(score**3, label, np.array([0.2, 0.5, 0.9]) ** 3)
    assert fitted == pytest.approx([0.2, 0.5, 0.9], abs=0.06)


@pytest.mark.parametrize("miss", [0.1, 0.05])
def test_conformal_lists_hold_the_target(miss: float) -> None:
    rng = np.random.default_rng(3)
    score = rng.random(8000)
    rank = rng.geometric(0.002 + 0.2 * score**2).astype(np.float64)
    fitted, asked = slice(0, 4000), slice(4000, None)
    alike, apart = (
        cm.conformal_depths(score[fitted], rank[fitted], score[asked], miss, groups)
        for groups in (1, 5)
    )
    for lengths in (alike, apart):
        assert (rank[asked] <= lengths).mean() == pytest.approx(1 - miss, abs=0.015)
    assert apart.mean() < alike.mean()
    assert len(np.unique(apart)) == 5


def test_conformal_depth_by_hand() -> None:
    # Of nine ranks the ninth holds nine tenths, of eight none does.
    ranks = np.arange(1.0, 10)
    assert cm.conformal_depths(np.zeros(9), ranks, np.zeros(1), 0.1, 3).tolist() == [9]
    assert cm.conformal_depths(np.zeros(8), ranks[:8], np.zeros(1), 0.1, 3).tolist() == [np.inf]
