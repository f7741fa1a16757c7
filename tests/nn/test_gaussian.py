"""Diagonal Gaussians against Monte Carlo and the closed forms."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rau.nn.gaussian import LOG_VAR_MAX, LOG_VAR_MIN, Gaussian, PathOutput


def make(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Gaussian:
    source = torch.Generator().manual_seed(seed)
    mean, log_var = (torch.randn(shape, generator=source, dtype=dtype) for _ in range(2))
    return Gaussian(mean, log_var)


def normal(seed: int, like: torch.Tensor, *count: int) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn((*count, *like.shape), generator=source, dtype=like.dtype)


def test_log_variance_is_clamped() -> None:
    gaussian = Gaussian(torch.zeros(3), torch.tensor([-1e9, 0.0, 1e9]))
    assert gaussian.log_var.tolist() == [LOG_VAR_MIN, 0.0, LOG_VAR_MAX]
    assert gaussian.sigma.isfinite().all()
    assert gaussian.sigma[1] == 1


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="differ"):
        Gaussian(torch.zeros(2, 3), torch.zeros(3))


def test_sample_moments() -> None:
    gaussian = make(0, 2, 5)
    samples = gaussian.at(normal(1, gaussian.mean, 200_000))
    assert samples.shape == (200_000, 2, 5)
    assert torch.allclose(samples.mean(0), gaussian.mean, atol=0.03)
    assert torch.allclose(samples.var(0), gaussian.log_var.exp(), rtol=0.02)


def test_samples_carry_gradients() -> None:
    mean, log_var = torch.zeros(4, 3, requires_grad=True), torch.zeros(4, 3, requires_grad=True)
    gaussian = Gaussian(mean, log_var)
    torch.autograd.backward(gaussian.at(normal(7, mean)).square().sum())
    assert mean.grad is not None
    assert mean.grad.ne(0).all()
    assert log_var.grad is not None
    assert log_var.grad.ne(0).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 9))
def test_wasserstein_by_loop(seed: int, rows: int, width: int) -> None:
    left, right = make(seed, rows, width), make(seed + 1, rows, width)
    found = left.wasserstein2(right)
    for row in range(rows):
        expected = sum(
            float(left.mean[row, i] - right.mean[row, i]) ** 2
            + float(left.sigma[row, i] - right.sigma[row, i]) ** 2
            for i in range(width)
        )
        assert float(found[row]) == pytest.approx(expected)
    assert torch.equal(found, right.wasserstein2(left))
    assert left.wasserstein2(left).eq(0).all()


def test_wasserstein_gradients() -> None:
    parts = [make(seed, 3, 4) for seed in (4, 5)]
    inputs = [x.requires_grad_() for part in parts for x in (part.mean, part.log_var.clone())]

    def distance(
        a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, d: torch.Tensor
    ) -> torch.Tensor:
        return Gaussian(a, b).wasserstein2(Gaussian(c, d))

    assert torch.autograd.gradcheck(distance, inputs)


def test_half_precision_is_widened() -> None:
    left, right = make(6, 3, 64, dtype=torch.bfloat16), make(7, 3, 64, dtype=torch.bfloat16)
    assert left.at(normal(8, left.mean)).dtype == torch.bfloat16
    found = left.wasserstein2(right)
    assert found.dtype == torch.float32
    wide = Gaussian(left.mean.double(), left.log_var.double()).wasserstein2(
        Gaussian(right.mean.double(), right.log_var.double())
    )
    assert torch.allclose(found.double(), wide, rtol=0.02)


def test_uncertainty_is_the_norm_of_sigma() -> None:
    gaussian = make(8, 3, 4)
    output = PathOutput((make(9, 3, 4), gaussian), gaussian.mean, (gaussian.mean,))
    expected = gaussian.sigma.square().sum(-1).sqrt()
    assert torch.allclose(output.uncertainty, expected)
    assert PathOutput((), gaussian.mean, ()).uncertainty.tolist() == [0, 0, 0]
