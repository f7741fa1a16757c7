"""Evidential classification of hits."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.distributions import Beta, kl_divergence

from rau.studies.evidential import Evidential, fit

Floats = NDArray[np.float64]


def drawn(seed: int, queries: int = 1000) -> tuple[Floats, Floats]:
    """Inputs (Q, 3) of which the first decides, and hits (Q,): certain ones far from zero."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(queries, 3))
    return rows, (rng.random(queries) < 1 / (1 + np.exp(-4 * rows[:, 0]))).astype(np.float64)


def test_loss_by_hand() -> None:
    # Evidence softplus(0) for both: Beta(1 + ln 2, 1 + ln 2).
    network = torch.nn.Linear(1, 2).double()
    with torch.no_grad():
        network.weight.zero_()
        network.bias.zero_()
    model = Evidential(network, torch.zeros(1), torch.ones(1))
    rows, hits = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    a = torch.tensor(1 + np.log(2))
    score = 2 * (0.25 + 0.25 / (2 * a + 1))  # Of both classes.
    assert model.loss(rows, hits, 0.0).item() == pytest.approx(score.item())
    one = torch.ones_like(a)
    wrong = kl_divergence(Beta(one, a), Beta(one, one))
    assert model.loss(rows, hits, 1.0).item() == pytest.approx((score + wrong).item())


def test_probabilities_are_those_of_new_queries() -> None:
    model = fit(*drawn(0), decay=0.1)
    rows, hits = drawn(1)
    probability, _ = model(rows)
    brier = ((probability - hits) ** 2).mean()
    truth = 1 / (1 + np.exp(-4 * rows[:, 0]))
    assert brier == pytest.approx(((truth - hits) ** 2).mean(), abs=0.01)


def test_there_is_more_evidence_where_classes_do_not_overlap() -> None:
    model = fit(*drawn(0), decay=0.1)
    sure = np.array([[3.0, 0, 0], [-3.0, 0, 0]])
    _, evidence = model(np.vstack([sure, np.zeros((1, 3))]))
    assert evidence[:2].min() > 2 * evidence[2]


def test_it_is_the_same_at_every_call() -> None:
    rows, hits = drawn(2, 50)
    first, second = (fit(rows, hits, 1.0)(rows)[0] for _ in range(2))
    assert np.array_equal(first, second)
