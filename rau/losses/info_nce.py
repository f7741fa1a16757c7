"""InfoNCE on cosines, with a set of positives per row.

InfoNCE is van den Oord et al.'s (2018, arXiv 1807.03748, equation 4); with several positives it is
the supervised contrastive loss of Khosla et al. (2020, arXiv 2004.11362, equation 2), the mean of
log p over the positives. Half precision is widened to float32. B is the batch, d the width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from rau.nn.gaussian import at_least_float32


def cosines(source: Tensor, target: Tensor) -> Tensor:
    """Cosine of every source row (B, d) and every target row (B, d), (B, B)."""
    left = F.normalize(at_least_float32(source), dim=-1)
    return left @ F.normalize(at_least_float32(target), dim=-1).T


def same_target(target_ids: Tensor) -> Tensor:
    """Which rows of a batch share their target image: (B,) integers to (B, B) of 1 and 0.

    In float: on a CPU bool matrices, and their conversion, cost several times as much.
    """
    numbers = target_ids.int()  # Half the memory; there are fewer images than that.
    return (numbers[:, None] - numbers).eq_(0).to(torch.float32)


def info_nce_of_logits(logits: Tensor, positives: Tensor, two_way: bool) -> Tensor:
    """Mean over rows i of -1 / |P_i| times the sum over P_i of log softmax(logits_i).

    Args:
        logits: (B, B), rows are sources.
        positives: the sets P, (..., B, B), 1 or true where a pair is in; no row may be empty, nor
            a column where both directions are asked for.
        two_way: average with the same loss from columns to rows.

    Returns:
        A loss for every matrix of `positives`, (...).
    """
    positives = positives.to(logits.dtype)
    loss = _one_way(logits, positives)
    return (loss + _one_way(logits.T, positives.mT)) / 2 if two_way else loss


def _one_way(logits: Tensor, positives: Tensor) -> Tensor:
    mean_positive = (logits * positives).sum(-1) / positives.sum(-1)
    return (logits.logsumexp(-1) - mean_positive).mean(-1)


def info_nce(
    source: Tensor, target: Tensor, positives: Tensor, temperature: float | Tensor, two_way: bool
) -> Tensor:
    """InfoNCE on cosines.

    Args:
        source: (B, d), normalised here.
        target: (B, d), normalised here.
        positives: sets of positives, (..., B, B), 1 or true where a pair is in; see
            `info_nce_of_logits`.
        temperature: divides the cosines.
        two_way: average with the same loss from targets to sources.

    Returns:
        A loss for every matrix of `positives`, (...).

    Raises:
        ValueError: when the shapes do not fit each other.
    """
    count = len(source)
    if source.shape != target.shape or positives.shape[-2:] != (count, count):
        shapes = [tuple(value.shape) for value in (source, target, positives)]
        raise ValueError(f"source, target and positives do not fit: {shapes}")
    return info_nce_of_logits(cosines(source, target) / temperature, positives, two_way)


def sampled_info_nce(
    sources: Sequence[Tensor],
    targets: Sequence[Tensor],
    positives: Tensor,
    temperature: float | Tensor,
    two_way: bool,
) -> Tensor:
    """`info_nce` averaged over samples of both paths.

    Args:
        sources: samples of z, (B, d) each.
        targets: as many samples, (B, d) each.
        positives, temperature, two_way: as in `info_nce`.

    Raises:
        ValueError: when the two paths have different numbers of samples, or none.
    """
    if not sources or len(sources) != len(targets):
        raise ValueError(f"{len(sources)} source samples and {len(targets)} target samples")
    pairs = zip(sources, targets, strict=True)
    return torch.stack([info_nce(*pair, positives, temperature, two_way) for pair in pairs]).mean(0)
