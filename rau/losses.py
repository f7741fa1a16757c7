"""The losses of RAU (arXiv 2308.08131) on tensors: Base or ISU, CSU and DR.

InfoNCE is van den Oord's (2018); with several positives a row it takes the form of supervised
contrastive learning (Khosla 2020), the mean of log p over the positives. Half precision is
widened to float32. B is the batch, d the width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from rau.gaussian import PathOutput, at_least_float32
from rau.params import UaParams


def same_target(target_ids: Tensor) -> Tensor:
    """Which rows of a batch share their target image: (B,) integers to a (B, B) mask."""
    return target_ids[:, None] == target_ids[None, :]


def _cosines(source: Tensor, target: Tensor) -> Tensor:
    """Cosine of every source row with every target row, (B, B)."""
    left, right = (F.normalize(at_least_float32(rows), dim=-1) for rows in (source, target))
    return left @ right.T


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
        base_positives: the rows of the same target, (B, B) bool.
        theta: threshold.
        quantile: of the cosines of pairs that are not base positives, in place of theta.

    Returns:
        (B, B) bool, rows are sources.
    """
    if quantile is not None:
        cosines = _cosines(mu_source, mu_target)
        others = cosines[~base_positives]
        if not len(others):
            return base_positives
        threshold = others.kthvalue(max(1, math.ceil(quantile * len(others)))).values
        return base_positives | (cosines > threshold)
    if theta >= 1:
        return base_positives
    return base_positives | (_cosines(mu_source, mu_target).clamp(-1, 1) >= theta)


def _row_loss(logits: Tensor, positives: Tensor) -> Tensor:
    """Mean over rows of -1/|P_i| times the sum of log softmax over P_i; an empty P_i gives 0."""
    log_p = F.log_softmax(logits, dim=1).masked_fill(~positives, 0)
    return -(log_p.sum(1) / positives.sum(1).clamp(min=1)).mean()


def multi_positive_info_nce(
    source: Tensor,
    target: Tensor,
    positives: Tensor,
    temperature: float | Tensor,
    two_way: bool,
) -> Tensor:
    """InfoNCE on cosines with a set of positives a row.

    Args:
        source: (B, d), normalised here.
        target: (B, d), normalised here.
        positives: (B, B) bool, rows are sources.
        temperature: divides the cosines.
        two_way: average with the same loss from targets to sources.

    Returns:
        A scalar.

    Raises:
        ValueError: when the shapes do not fit each other.
    """
    if source.shape != target.shape or positives.shape != (len(source), len(target)):
        shapes = [tuple(value.shape) for value in (source, target, positives)]
        raise ValueError(f"source, target and positives do not fit: {shapes}")
    logits = _cosines(source, target) / temperature
    forward = _row_loss(logits, positives)
    return (forward + _row_loss(logits.T, positives.T)) / 2 if two_way else forward


def csu_loss(
    sources: Sequence[Tensor],
    targets: Sequence[Tensor],
    positives: Tensor,
    temperature: float | Tensor,
    two_way: bool,
) -> Tensor:
    """Cross-sample uncertainty: InfoNCE over `csu_positives`, a scalar averaged over draws.

    Args:
        sources: draws of z, (B, d) each.
        targets: as many draws, (B, d) each.
        positives: (B, B) bool.
        temperature: divides the cosines.
        two_way: both directions.

    Raises:
        ValueError: when the two paths have different numbers of draws, or none.
    """
    if not sources or len(sources) != len(targets):
        raise ValueError(f"{len(sources)} source draws and {len(targets)} target draws")
    terms = [
        multi_positive_info_nce(source, target, positives, temperature, two_way)
        for source, target in zip(sources, targets, strict=True)
    ]
    return torch.stack(terms).mean()


def base_loss(
    sources: Sequence[Tensor],
    targets: Sequence[Tensor],
    target_ids: Tensor,
    temperature: float | Tensor,
    two_way: bool,
) -> Tensor:
    """InfoNCE where rows of one target are positives of each other; on samples it is ISU.

    Arguments and errors as in `csu_loss`, with `target_ids` (B,) in place of the mask.
    """
    return csu_loss(sources, targets, same_target(target_ids), temperature, two_way)


def dr_loss(source: PathOutput, target: PathOutput, which: Literal["last", "all"]) -> Tensor:
    """Distribution regularisation: mean squared 2-Wasserstein distance of the pairs, a scalar.

    Of the last block or averaged over all blocks; without blocks (n = 0) the squared distance of
    the means.

    Raises:
        ValueError: when the two paths have different numbers of blocks.
    """
    pairs = list(zip(source.blocks, target.blocks, strict=True))
    if not pairs:
        gap = at_least_float32(source.mean) - at_least_float32(target.mean)
        return gap.square().sum(-1).mean()
    used = pairs if which == "all" else pairs[-1:]
    return torch.stack([left.wasserstein2(right).mean() for left, right in used]).mean()


@dataclass(frozen=True, eq=False)
class Terms:
    """The loss and its parts, scalars; parts are unweighted, and 0 where their weight is 0.

    Attributes:
        total: base + csu_weight * csu + dr_weight * dr; the one to differentiate.
        base: Base, which is ISU on samples.
        csu: cross-sample uncertainty.
        dr: distribution regularisation.
        positives: (B, B) bool, CSU's positives; Base's where CSU is off.
    """

    total: Tensor
    base: Tensor
    csu: Tensor
    dr: Tensor
    positives: Tensor


def total_loss(
    source: PathOutput,
    target: PathOutput,
    target_ids: Tensor,
    ua: UaParams,
    temperature: float | Tensor,
    two_way: bool,
) -> Terms:
    """The training loss of a batch; a term of weight 0 is not computed.

    Args:
        source: the source path of B queries.
        target: the target path of their B targets.
        target_ids: (B,) integers, equal where the target image is the same.
        ua: weights, theta and the blocks of DR.
        temperature: divides the cosines.
        two_way: both directions of InfoNCE.

    Raises:
        ValueError: when the two outputs do not fit each other.
    """
    base = base_loss(source.draws, target.draws, target_ids, temperature, two_way)
    csu = dr = base.new_zeros(())
    positives = same_target(target_ids)
    total = base
    if ua.csu_weight > 0:
        positives = csu_positives(source.mean, target.mean, positives, ua.theta, ua.theta_quantile)
        csu = csu_loss(source.draws, target.draws, positives, temperature, two_way)
        total = total + ua.csu_weight * csu
    if ua.dr_weight > 0:
        dr = dr_loss(source, target, ua.dr_blocks)
        total = total + ua.dr_weight * dr
    return Terms(total, base, csu, dr, positives)
