"""Diagonal Gaussians, the form that the uncertainty of RAU (arXiv 2308.08131) takes.

Means are L2-normalised by whoever makes them (the head), and sigma is in that unit.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

LOG_VAR_MIN = -30.0
LOG_VAR_MAX = 5.0


def at_least_float32(value: Tensor) -> Tensor:
    """Widen half precision to float32; wider types, of any shape, pass unchanged."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def squared_distance(left: Tensor, right: Tensor) -> Tensor:
    """Squared Euclidean distance of rows in float32, (..., d) twice to (...)."""
    return (at_least_float32(left) - at_least_float32(right)).square().sum(-1)


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Independent normal variables: `mean` and `log_var`, both (..., d).

    This is the one place where log variances are clamped, to [LOG_VAR_MIN, LOG_VAR_MAX].

    Raises:
        ValueError: when the two shapes differ.
    """

    mean: Tensor
    log_var: Tensor

    def __post_init__(self) -> None:
        if self.mean.shape != self.log_var.shape:
            raise ValueError(
                f"mean {tuple(self.mean.shape)} and log_var {tuple(self.log_var.shape)} differ"
            )
        # Its gradient is one pass where that of `clamp` is four.
        clamped = F.hardtanh(self.log_var, LOG_VAR_MIN, LOG_VAR_MAX)
        object.__setattr__(self, "log_var", clamped)

    @cached_property
    def sigma(self) -> Tensor:
        """Standard deviations, (..., d)."""
        return torch.as_tensor((self.log_var / 2).exp())

    @property
    def sigma_norm(self) -> Tensor:
        """Norm of sigma per row, (...)."""
        return torch.as_tensor(torch.linalg.vector_norm(at_least_float32(self.sigma), dim=-1))

    def at(self, noise: Tensor) -> Tensor:
        """mean + sigma * noise, (..., d): a sample where the noise is standard normal.

        Gradients reach both parameters (reparametrisation); leading dimensions broadcast.
        """
        return torch.addcmul(self.mean, self.sigma, noise)

    def wasserstein2(self, other: Self) -> Tensor:
        """Squared 2-Wasserstein distance row by row, (...).

        For diagonal Gaussians it is |mean - mean'|^2 + |sigma - sigma'|^2.
        """
        means = squared_distance(self.mean, other.mean)
        return means + squared_distance(self.sigma, other.sigma)


@dataclass(frozen=True, eq=False)
class PathOutput:
    """What the source path or the target path of the head gives for B rows.

    Attributes:
        blocks: the Gaussian of every UA block, (B, d) each; empty where n = 0.
        mean: the path's deterministic vector, (B, d): the last block's mean.
        samples: the z that losses read, (B, d) each: samples in training with ISU, else the mean.
    """

    blocks: tuple[Gaussian, ...]
    mean: Tensor
    samples: tuple[Tensor, ...]

    @property
    def uncertainty(self) -> Tensor:
        """Norm of the last block's sigma, (B,); 0 where n = 0."""
        return (
            self.blocks[-1].sigma_norm if self.blocks else self.mean.new_zeros(self.mean.shape[:-1])
        )
