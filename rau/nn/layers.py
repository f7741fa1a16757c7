"""Layers of the heads and row-wise functions with gradients of their own."""

from typing import Any

import torch
from torch import Tensor, nn

from rau.nn.noise import Noise

NORM_MIN = 1e-12


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


class _Unit(torch.autograd.Function):
    """Division by norm times `over` in six passes, there and back, in place of a dozen."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, over: Tensor | None) -> Tensor:
        norm = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp_(min=NORM_MIN)
        divisor = norm if over is None else norm * over.to(norm.dtype)
        short = rows / divisor
        ctx.save_for_backward(short, divisor, over)
        return torch.as_tensor(short)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None]:
        short, divisor, over = ctx.saved_tensors
        along = torch.linalg.vecdot(gradients[0], short)[..., None]
        pull = None
        if over is not None:
            if ctx.needs_input_grad[1]:
                pull = (-along.sum() / over).to(over.dtype)
            along = along * over.to(along.dtype).square()
        return torch.addcmul(gradients[0], short, along, value=-1).div_(divisor), pull


def unit(rows: Tensor, over: Tensor | None = None) -> Tensor:
    """Rows of norm 1, (..., d), as `F.normalize` gives them; nought stays nought.

    With `over`, a scalar, of norm 1 / over.
    """
    return torch.as_tensor(_Unit.apply(rows, over))


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
