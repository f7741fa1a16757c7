"""Layers of the heads, for one head or a stack of R.

Parameters of a stack have R in front, and so have the rows: (R, B, d). One code serves both.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rau.nn.noise import Noise

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
    """Division by norm times `over` in six passes, there and back, in place of a dozen."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, over: Tensor | None) -> Tensor:
        norm = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp_(min=NORM_MIN)
        divisor = norm if over is None else norm * per_run(over).to(norm.dtype)
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
                pull = (-along.sum((-1, -2)) / over).to(over.dtype)
            along = along * per_run(over).to(along.dtype).square()
        return torch.addcmul(gradients[0], short, along, value=-1).div_(divisor), pull


def unit(rows: Tensor, over: Tensor | None = None) -> Tensor:
    """Rows of norm 1, (..., d), as `F.normalize` gives them; nought stays nought.

    With `over`, a number a run, () or (R,), of norm 1 / over.
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
