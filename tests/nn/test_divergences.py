"""Divergences of diagonal Gaussians against Monte Carlo and torch's own closed forms."""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from rau.nn.divergences import DIVERGENCES, Divergence
from rau.nn.gaussian import LOG_VAR_MAX, LOG_VAR_MIN, Gaussian
from rau.params import UaParams
from tests.nn.test_gaussian import make, normal

COUNT = 200_000
LEFT, RIGHT = make(2, 4), make(3, 4)
# Narrow ones, which a kernel of width 1 tells apart.
NARROW = [Gaussian(wide.mean, wide.log_var - 3) for wide in (LEFT, RIGHT)]


def torch_kl(left: Gaussian, right: Gaussian) -> Tensor:
    return kl_divergence(Normal(left.mean, left.sigma), Normal(right.mean, right.sigma)).sum(-1)


def log_density(of: Gaussian, points: Tensor) -> Tensor:
    gap = (points - of.mean) / of.sigma
    return -(gap.square() / 2 + of.sigma.log() + math.log(2 * math.pi) / 2).sum(-1)


def by_overlap(left: Gaussian, right: Gaussian) -> Tensor:
    """-log of the mean of sqrt(q / p) over samples of p."""
    points = left.at(normal(5, left.mean, COUNT))
    ratio = log_density(right, points) - log_density(left, points)
    return -(ratio / 2).exp().mean().log()


def by_kernel(left: Gaussian, right: Gaussian) -> Tensor:
    """The kernel's mean over independent samples."""

    def mean(first: Gaussian, second: Gaussian) -> Tensor:
        x, y = (g.at(normal(8 + i, g.mean, COUNT)) for i, g in enumerate((first, second)))
        return (-(x - y).square().sum(-1) / 2).exp().mean()

    return mean(left, left) + mean(right, right) - 2 * mean(left, right)


def by_coupling(left: Gaussian, right: Gaussian) -> Tensor:
    """In one dimension the optimal coupling sorts both samples, and dimensions add up."""
    x, y = (g.at(normal(i, g.mean, COUNT)).sort(0).values for i, g in enumerate((left, right)))
    return (x - y).square().mean(0).sum()


EXPECTED: dict[str, Divergence] = {
    "wasserstein": by_coupling,
    "kl": torch_kl,
    "jeffreys": lambda left, right: torch_kl(left, right) + torch_kl(right, left),
    "bhattacharyya": by_overlap,
    "mmd": by_kernel,
    "means": lambda left, right: (left.mean - right.mean).pow(2).sum(-1),
}


@pytest.mark.parametrize("name", DIVERGENCES)
def test_it_is_what_its_definition_gives(name: str) -> None:
    pair = NARROW if name == "mmd" else (LEFT, RIGHT)
    found, expected = DIVERGENCES[name](*pair), EXPECTED[name](*pair)
    assert float(found) == pytest.approx(float(expected), rel=0.02)
    assert float(DIVERGENCES[name](LEFT, LEFT)) == pytest.approx(0, abs=1e-12)
    assert DIVERGENCES[name](make(4, 3, 5), make(5, 3, 5)).shape == (3,)


def test_names_are_those_of_the_parameter() -> None:
    assert set(get_args(UaParams.model_fields["dr"].annotation)) == set(DIVERGENCES)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_gradients_are_finite_at_every_variance(name: str) -> None:
    log_var = torch.tensor([[LOG_VAR_MIN, LOG_VAR_MAX, 0.0, math.log(1e-3)]], requires_grad=True)
    mean = torch.full((1, 4), 0.5, requires_grad=True)
    other = Gaussian(torch.zeros(1, 4), log_var.detach().flip(1))
    torch.autograd.backward(DIVERGENCES[name](Gaussian(mean, log_var), other).sum())
    assert mean.grad is not None
    assert mean.grad.isfinite().all()
    assert mean.grad.ne(0).any()
    assert log_var.grad is None or log_var.grad.isfinite().all()
