"""Functions with gradients of their own, against what autograd makes of the plain formulas."""

import torch
from torch import Tensor

from rau.nn.layers import squared_distance


def drawn(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)


def test_squared_distance() -> None:
    left, right = drawn(5, 7), drawn(5, 6)
    right = torch.cat([right, right[:, :1]], dim=1)
    assert torch.allclose(squared_distance(left, right), (left - right).square().sum(-1))
    assert torch.autograd.gradcheck(squared_distance, (left, right))
