"""Distances and spread of Gaussians, by hand."""

import numpy as np
import pytest
import torch

from rau.studies import (
    distances,
)
from rau.training.pair_distances import gaussian, outputs
from tests.nn.test_gaussian import make
from tests.studies.synthetic import trained


def test_distances_are_those_of_the_gaussians_pair_by_pair() -> None:
    left, right = make(0, 4, 3), make(1, 4, 3)
    found = distances._distances(left, right)
    for row in range(4):
        moved = type(right)(right.mean.roll(row, 0), right.log_var.roll(row, 0))
        expected = left.wasserstein2(moved)
        for i in range(4):
            assert found[i, (i - row) % 4] == pytest.approx(float(expected[i]))


def test_effective_rank_and_uniformity_of_known_points() -> None:
    corners = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
    assert distances._effective_rank(corners) == pytest.approx(2)
    assert distances._effective_rank(corners * torch.tensor([1.0, 0, 0])) == pytest.approx(1)
    near, far = np.exp(-2 * 2.0), np.exp(-2 * 4.0)
    assert distances._uniformity(corners) == pytest.approx(np.log((4 * near + 2 * far) / 6))


def test_spread_counts_every_pair_once() -> None:
    one = trained()
    found = distances.spread(one)
    numbers = dict(zip(distances.NUMBERS, found["numbers"], strict=True))
    (task,) = one.data.tasks(one.protocol)
    source, goal, target = outputs(one.head, task, one.data.features)
    left, right = gaussian(source), gaussian(goal)
    pairs, negatives, closer = [], [], []
    for row, own in enumerate(target.tolist()):
        gaps = [
            float((left.mean[row] - right.mean[other]).square().sum())
            + float((left.sigma[row] - right.sigma[other]).square().sum())
            for other in range(len(target))
        ]
        wrong = [gap for gap, other in zip(gaps, target.tolist(), strict=True) if other != own]
        pairs.append(gaps[row])
        negatives += wrong
        closer.append(np.mean([gap > gaps[row] for gap in wrong]))
    shares = [np.histogram(v, distances.EDGES)[0] / len(v) for v in (pairs, negatives)]
    for name, expected in zip(("pairs", "negatives"), shares, strict=True):
        np.testing.assert_allclose(found[f"histogram_{name}"], expected, atol=1e-12)
    assert 0.1 < numbers["overlap"] < 1
    assert numbers["overlap"] == pytest.approx(np.minimum(*shares).sum())
    assert numbers["closer"] == pytest.approx(np.mean(closer))
    assert numbers["pairs"] == pytest.approx(np.mean(pairs), rel=1e-4)
    assert numbers["negatives"] == pytest.approx(np.mean(negatives), rel=1e-4)
    assert numbers["alignment"] <= numbers["pairs"]
    assert {0, 1, 3} <= set(found["plane_kind"])
