"""MUR (Chen et al. 2024, arXiv 2211.07394): target noise of its own mean and std."""

import math

import torch
from torch import Tensor

from rau.losses.criterion import Criterion, LossContext, Terms
from rau.losses.info_nce import info_nce, same_target
from rau.nn.gaussian import PathOutput
from rau.nn.noise import Noise

STD_MIN = 1e-8
# Norm of the features that the authors' code adds its noise to; the noise grows with it.
NORM = 4.0


def augment(target: Tensor, noise: Noise) -> Tensor:
    """Noisy targets alpha * whitened + beta, (B, d) (equations 3 to 5), of unit targets (B, d).

    Targets are first given the norm `NORM`. Whitened is a row minus its mean, divided by its
    standard deviation, both over the d entries; alpha is drawn from N(1, std) and beta from
    N(mean, std), one of each per entry. Nothing is learned, and neither carries a gradient.
    """
    target = NORM * target
    std, mean = torch.std_mean(target, dim=-1, keepdim=True)
    std = std.clamp(min=STD_MIN)
    whitened = (target - mean) / std
    loc, scale = mean.detach(), std.detach()
    alpha = 1 + scale * noise.normal(target)
    beta = loc + scale * noise.normal(target)
    return alpha * whitened + beta


class MurLoss(Criterion):
    """gamma * noisy + (1 - gamma) * InfoNCE of the means of both paths (equations 6 to 8).

    The noisy term is (exp(-s) * InfoNCE(source, noisy target) + s) / 2 with s the std of all
    noisy entries; gamma is exp(-progress).
    """

    def forward(self, source: PathOutput, target: PathOutput, context: LossContext) -> Terms:
        """The loss of B queries and their B targets."""
        noisy = augment(target.mean, context.noise)
        std = noisy.std()
        options = same_target(context.target_ids), context.temperature, context.two_way
        coarse = info_nce(source.mean, noisy, *options)
        fine = info_nce(source.mean, target.mean, *options)
        gamma = math.exp(-context.progress)
        loss = gamma * ((-std).exp() * coarse + std) / 2 + (1 - gamma) * fine
        return Terms.of_one(loss, context.target_ids)
