"""The losses of RAU (arXiv 2308.08131) on tensors: Base or ISU, CSU and DR.

InfoNCE is van den Oord's (2018); with several positives a row it takes the form of supervised
contrastive learning (Khosla 2020), the mean of log p over the positives. Half precision is
widened to float32. B is the batch, d the width. Sets of pairs are matrices of 1 and 0 in float: on
a CPU comparisons that give bool, and their conversion, cost several times as much.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rau.losses.info_nce import contrast
from rau.nn.gaussian import PathOutput, at_least_float32
from rau.nn.layers import squared_distance, unit
from rau.params import UaParams


def same_target(target_ids: Tensor) -> Tensor:
    """Which rows of a batch share their target image: (B,) integers to (B, B) of 1 and 0."""
    numbers = target_ids.int()  # Half the memory; there are fewer images than that.
    gaps = numbers[:, None] - numbers
    return gaps.eq_(0).to(torch.float32)


def _logits(source: Tensor, target: Tensor, temperature: float | Tensor | None = None) -> Tensor:
    """Cosine, over a temperature if there is one, of every source row and target row, (B, B)."""
    left, right = at_least_float32(source), at_least_float32(target)
    if isinstance(temperature, float | int):
        temperature = left.new_full((), temperature)
    return unit(left, temperature) @ unit(right).mT


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
    cosines = _logits(mu_source, mu_target).clamp_(-1, 1)
    if quantile is None:
        added = cosines.ge_(theta)
    else:
        added = cosines.gt_(_threshold(cosines, 1 - base_positives, quantile))
    return torch.maximum(base_positives.to(added), added)


def _threshold(cosines: Tensor, others: Tensor, quantile: float) -> Tensor:
    """The quantile of a matrix's `others`, a scalar: the k-th smallest, k = quantile * count.

    Nothing waits for the device: the count stays there. Infinite where there are no others.
    """
    rank = (others.sum() * quantile).ceil().long().clamp(min=1)
    ordered = cosines.masked_fill(others == 0, torch.inf).flatten().sort().values
    return ordered.gather(0, rank[None] - 1)[0]


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
        positives: (B, B), 1 or true where it is one, rows are sources.
        temperature: divides the cosines.
        two_way: average with the same loss from targets to sources.

    Returns:
        A scalar.

    Raises:
        ValueError: when the shapes do not fit each other.
    """
    _check(source, target, positives)
    return contrast(_logits(source, target, temperature), [positives], [1.0], two_way).total


def _check(source: Tensor, target: Tensor, positives: Tensor) -> None:
    count = len(source)
    if source.shape != target.shape or positives.shape != (count, count):
        shapes = [tuple(value.shape) for value in (source, target, positives)]
        raise ValueError(f"source, target and positives do not fit: {shapes}")


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
        positives: (B, B), 1 or true where it is one.
        temperature: divides the cosines.
        two_way: both directions.

    Raises:
        ValueError: when the two paths have different numbers of draws, or none.
    """
    terms = [
        multi_positive_info_nce(source, target, positives, temperature, two_way)
        for source, target in _draws(sources, targets)
    ]
    return torch.stack(terms).mean()


def _draws(sources: Sequence[Tensor], targets: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    if not sources or len(sources) != len(targets):
        raise ValueError(f"{len(sources)} source draws and {len(targets)} target draws")
    return list(zip(sources, targets, strict=True))


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
        means = at_least_float32(source.mean), at_least_float32(target.mean)
        return squared_distance(*means).mean()
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
        positives: (B, B) of 1 and 0, CSU's positives; Base's where CSU is off.
        base_positives: (B, B) of 1 and 0, rows of the same target.
    """

    total: Tensor
    base: Tensor
    csu: Tensor
    dr: Tensor
    positives: Tensor
    base_positives: Tensor


def total_loss(
    source: PathOutput,
    target: PathOutput,
    target_ids: Tensor,
    ua: UaParams,
    temperature: float | Tensor,
    two_way: bool,
    narrow: bool = False,
) -> Terms:
    """The training loss of a batch; a term of weight 0 is not computed.

    Base and CSU read the same logits, so that both are had from one pass over them.

    Args:
        source: the source path of B queries.
        target: the target path of their B targets.
        target_ids: (B,) integers, equal where the target image is the same.
        ua: weights of the terms, theta and the blocks of DR.
        temperature: divides the cosines.
        two_way: both directions of InfoNCE.
        narrow: cosines over the temperature lie within `contrast.NARROW` of each other.

    Raises:
        ValueError: when the two outputs do not fit each other.
    """
    base_positives = same_target(target_ids)
    masks, weights = [base_positives], [1.0]
    if ua.csu_weight > 0:
        means = source.mean, target.mean
        masks.append(csu_positives(*means, base_positives, ua.theta, ua.theta_quantile))
        weights.append(ua.csu_weight)
    most = 1 / torch.as_tensor(temperature).detach() if narrow else None
    found = []
    for z_source, z_target in _draws(source.draws, target.draws):
        _check(z_source, z_target, base_positives)
        logits = _logits(z_source, z_target, temperature)
        found.append(contrast(logits, masks, weights, two_way, most))
    total = torch.stack([one.total for one in found]).mean()
    parts = torch.stack([one.parts for one in found]).mean(0)
    dr = total.new_zeros(())
    if ua.dr_weight > 0:
        dr = dr_loss(source, target, ua.dr_blocks)
        total = total + ua.dr_weight * dr
    csu = parts[1] if ua.csu_weight > 0 else dr.new_zeros(())
    return Terms(total, parts[0], csu, dr, masks[-1], base_positives)
