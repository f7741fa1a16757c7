"""Functions with gradients of their own, against what autograd makes of the plain formulas."""

import torch
from torch import Tensor
from torch.nn import functional as F

from rau.nn.layers import squared_distance, unit


def drawn(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)


def test_unit_rows() -> None:
    rows = drawn(5, 7)
    assert torch.allclose(unit(rows), F.normalize(rows, dim=-1))
    assert torch.autograd.gradcheck(unit, (rows,))


def test_a_zero_row_stays_zero() -> None:
    assert not unit(torch.zeros(2, 3)).any()


def test_squared_distance() -> None:
    left, right = drawn(5, 7), drawn(5, 6)
    right = torch.cat([right, right[:, :1]], dim=1)
    assert torch.allclose(squared_distance(left, right), (left - right).square().sum(-1))
    assert torch.autograd.gradcheck(squared_distance, (left, right))
