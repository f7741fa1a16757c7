"""The loss of RAU (arXiv 2308.08131): Base or ISU, CSU and DR.

B is the batch, d the width. Sets of pairs are matrices of 1 and 0 in float.
"""

import torch
from torch import Tensor

from rau.losses.criterion import Criterion, LossContext, Terms
from rau.losses.info_nce import cosines, same_target, sampled_info_nce
from rau.nn.divergences import DIVERGENCES
from rau.nn.gaussian import PathOutput, squared_distance
from rau.params import UaParams


@torch.no_grad()
def csu_positives(
    mu_source: Tensor,
    mu_target: Tensor,
    base_positives: Tensor,
    theta: float,
    quantile: float | None = None,
) -> Tensor:
    """Positives of cross-sample uncertainty: the base ones and every j with cosine >= theta.

    The mask carries no gradient. Theta >= 1 adds nothing, whatever rounding makes of the cosine
    of equal vectors; theta <= -1 adds everything. Cosines differ from encoder to encoder and from
    epoch to epoch; with a quantile the threshold follows them, and the share 1 - quantile of the
    batch's other pairs is added, those of the largest cosines.

    Args:
        mu_source: means of the source path, (B, d).
        mu_target: means of the target path, (B, d).
        base_positives: the rows of the same target, (B, B) of 1 and 0.
        theta: threshold.
        quantile: of the cosines of pairs that are not base positives, in place of theta.

    Returns:
        (B, B) of 1 and 0, rows are sources.
    """
    if quantile is None and theta >= 1:
        return base_positives
    near = cosines(mu_source, mu_target).clamp_(-1, 1)
    if quantile is None:
        added = near.ge_(theta)
    else:
        added = near.gt_(_threshold(near, 1 - base_positives, quantile))
    return torch.maximum(base_positives.to(added), added)


def _threshold(values: Tensor, others: Tensor, quantile: float) -> Tensor:
    """The quantile of `values` where `others` is 1, a scalar: the k-th smallest, k = quantile *
    count.

    Nothing waits for the device: the count stays there. Infinite where there are no others.
    """
    rank = (others.sum() * quantile).ceil().long().clamp(min=1)
    ordered = values.masked_fill(others == 0, torch.inf).flatten().sort().values
    return ordered.gather(0, rank[None] - 1)[0]


def dr_loss(source: PathOutput, target: PathOutput, ua: UaParams) -> Tensor:
    """Distribution regularisation: the mean of `ua.dr` over the pairs, a scalar.

    RAU's is the squared 2-Wasserstein distance. Of the last block or averaged over all blocks
    (`ua.dr_blocks`); without blocks (n = 0) the squared distance of the means.

    Raises:
        ValueError: when the two paths have different numbers of blocks.
    """
    pairs = list(zip(source.blocks, target.blocks, strict=True))
    if not pairs:
        return squared_distance(source.mean, target.mean).mean()
    used = pairs if ua.dr_blocks == "all" else pairs[-1:]
    distance = DIVERGENCES[ua.dr]
    return torch.stack([distance(left, right).mean() for left, right in used]).mean()


class RauLoss(Criterion):
    """Base or ISU, CSU and DR; with all of them off what is left is the usual InfoNCE."""

    def forward(self, source: PathOutput, target: PathOutput, context: LossContext) -> Terms:
        """The loss of B queries and their B targets; a term of weight 0 is not computed.

        Raises:
            ValueError: when the two outputs do not fit each other.
        """
        ua, base_positives = context.ua, same_target(context.target_ids)
        sets = [base_positives]
        if ua.csu_weight > 0:
            means = source.mean, target.mean
            sets.append(csu_positives(*means, base_positives, ua.theta, ua.theta_quantile))
        options = torch.stack(sets), context.temperature, context.two_way
        losses = sampled_info_nce(source.samples, target.samples, *options)
        base, csu, dr = losses[0], losses.new_zeros(()), losses.new_zeros(())
        total = base
        if ua.csu_weight > 0:
            csu = losses[1]
            total = total + ua.csu_weight * csu
        if ua.dr_weight > 0:
            dr = dr_loss(source, target, ua)
            total = total + ua.dr_weight * dr
        return Terms(total, base, csu, dr, sets[-1], base_positives)
