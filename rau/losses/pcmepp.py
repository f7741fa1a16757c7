"""PCME++ (Chun 2023, arXiv 2305.18171): closed-form sampled distance and binary cross-entropy.

Without its pseudo-positives, mixed sample augmentation and information bottleneck.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rau.losses.criterion import Criterion, LossContext, Terms
from rau.losses.info_nce import same_target
from rau.nn.gaussian import PathOutput, at_least_float32

# The largest sum of variances that distances to images tell apart. Heads start at sigma_init^2,
# 0.36, and stay near it; at 4 more than another's an image is behind it, whatever the means.
MOST = 8.0


def total_variance(output: PathOutput) -> Tensor:
    """Sum of the last block's variances, (B,); 0 where there is no block."""
    return output.uncertainty.square()


def sampled_distances(source: PathOutput, target: PathOutput) -> Tensor:
    """Expected squared distance of a source sample and a target sample, (B, B') (equation 1).

    ||mu_s - mu_t||^2 + sum of sigma_s^2 + sum of sigma_t^2.
    """
    mu_s, mu_t = at_least_float32(source.mean), at_least_float32(target.mean)
    gaps = mu_s.square().sum(-1)[:, None] + mu_t.square().sum(-1)[None] - 2 * mu_s @ mu_t.T
    return gaps + total_variance(source)[:, None] + total_variance(target)[None]


class PcmeppLoss(Criterion):
    """Binary cross-entropy of the probability that a pair matches, sigmoid(b - a * distance).

    a and b are learned. Both start at 1 / (2 * temperature): for unit means the logit is then their
    cosine over the temperature and a constant. A temperature of 0.1 gives the paper's start, 5.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__(temperature)
        start = 1 / (2 * temperature)
        self.scale = nn.Parameter(torch.tensor(start))
        self.shift = nn.Parameter(torch.tensor(start))

    def forward(self, source: PathOutput, target: PathOutput, context: LossContext) -> Terms:
        """The mean over all pairs of the batch (equation 2)."""
        positives = same_target(context.target_ids)
        logits = self.shift - self.scale * sampled_distances(source, target)
        loss = F.binary_cross_entropy_with_logits(logits, positives.to(logits.dtype))
        return Terms.of_one(loss, context.target_ids)

    def query_vectors(self, output: PathOutput) -> Tensor:
        """Unit vectors (B, d + 2) whose cosine with `gallery_vectors` falls with the distance.

        For one query the distance orders images as 2 mu_q . mu_g - v_g does, v_g the sum of the
        image's variances: the inner product of [mu_q, 1, 0] and [2 mu_g, -v_g, rest]. The rest
        gives all images one norm, so that their cosines are in the order of the products. A larger
        norm would be for larger variances, and leave the cosines smaller differences.
        """
        ones = output.mean.new_tensor([1.0, 0.0]).expand(len(output.mean), 2)
        return F.normalize(torch.cat([output.mean, ones], dim=-1), dim=-1)

    def gallery_vectors(self, output: PathOutput) -> Tensor:
        """Unit vectors (B, d + 2) of images; see `query_vectors`.

        Images of more variance than `MOST` are as far as those of so much.
        """
        variance = total_variance(output).clamp(max=MOST)[:, None]
        rest = (MOST**2 - variance.square()).sqrt()
        return F.normalize(torch.cat([2 * output.mean, -variance, rest], dim=-1), dim=-1)
