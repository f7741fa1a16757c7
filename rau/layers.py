"""Layers of the heads, for one head or a stack of R.

Parameters of a stack have R in front, and so have the rows: (R, B, d). One code serves both.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rau.noise import Noise

NORM_MIN = 1e-12


def per_run(value: Tensor) -> Tensor:
    """A number a run, () or (R,), as it broadcasts with rows, (1, 1) or (R, 1, 1)."""
    return value[..., None, None]


class Dense(nn.Linear):
    """A linear layer: (B, inputs) with a weight (outputs, inputs), each with R in front or not."""

    def forward(self, rows: Tensor) -> Tensor:
        """To (B, outputs)."""
        if self.weight.ndim == 2:
            return F.linear(rows, self.weight, self.bias)
        if self.bias is None:
            return torch.bmm(rows, self.weight.mT)
        return torch.baddbmm(self.bias[:, None], rows, self.weight.mT)


class Norm(nn.LayerNorm):
    """Layer norm over the last dimension."""

    def forward(self, rows: Tensor) -> Tensor:
        """(B, d) to (B, d)."""
        if self.weight.ndim == 1:
            return super().forward(rows)
        normed = F.layer_norm(rows, self.normalized_shape, eps=self.eps)
        return torch.addcmul(self.bias[:, None], normed, self.weight[:, None])


class Dropout(nn.Module):
    """Dropout with the head's own noise."""

    def __init__(self, share: float, noise: Noise) -> None:
        super().__init__()
        self.share, self.noise = share, noise

    def forward(self, rows: Tensor) -> Tensor:
        """(B, d) to (B, d)."""
        if not self.training or self.share == 0:
            return rows
        return rows * self.noise.keep(rows, 1 - self.share)


class _Unit(torch.autograd.Function):
    """Division by the norm in six passes over the rows, there and back, in place of a dozen."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp_(min=NORM_MIN)
        unit = rows / norm
        ctx.save_for_backward(unit, norm)
        return torch.as_tensor(unit)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        unit, norm = ctx.saved_tensors
        along = torch.linalg.vecdot(gradients[0], unit)[..., None]
        return torch.addcmul(gradients[0], unit, along, value=-1).div_(norm)


def unit(rows: Tensor) -> Tensor:
    """Rows of norm 1, (..., d), as `F.normalize` gives them; nought stays nought."""
    return torch.as_tensor(_Unit.apply(rows))


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
