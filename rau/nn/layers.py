"""Layers of the heads and row-wise functions with gradients of their own."""

from typing import Any

import torch
from torch import Tensor, nn

from rau.nn.noise import Noise


class Dropout(nn.Module):
    """Dropout with the head's own noise."""

    def __init__(self, share: float, noise: Noise) -> None:
        super().__init__()
        self.share, self.noise = share, noise

    def forward(self, rows: Tensor) -> Tensor:
        """(B, d) to (B, d)."""
        if not self.training or self.share == 0:
            return rows
        return rows * self.noise.dropout_mask(rows, 1 - self.share)


class _SquaredDistance(torch.autograd.Function):
    """|a - b|^2 of rows, whose gradient is a multiple of the gap."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        gap = left - right
        ctx.save_for_backward(gap)
        return torch.as_tensor(torch.linalg.vector_norm(gap, dim=-1).square())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gap,) = ctx.saved_tensors
        pull = gap * (2 * gradients[0][..., None])
        return pull, -pull


def squared_distance(left: Tensor, right: Tensor) -> Tensor:
    """Squared Euclidean distance row by row, (..., d) twice to (...)."""
    return torch.as_tensor(_SquaredDistance.apply(left, right))
