"""InfoNCE with sets of positives as one function with its own gradient.

For a set P of positives a row the loss is the mean over rows of -1/|P_i| times the sum over P_i of
log softmax (Khosla 2020, equation 2). Several sets over the same logits share what softmax costs,
both directions share the weights of the sets, and the gradient is made in the same passes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

# exp(-80) is still a normal number in float32.
NARROW = 80.0


class Contrast(NamedTuple):
    """The weighted sum of the sets' losses, which carries the gradient, and each by itself.

    A scalar and (sets,).
    """

    total: Tensor
    parts: Tensor


def contrast(
    logits: Tensor,
    masks: Sequence[Tensor],
    weights: Sequence[float],
    two_way: bool,
    most: Tensor | None = None,
) -> Contrast:
    """The loss of every set of positives.

    Args:
        logits: (B, B), rows are sources.
        masks: sets of positives of that shape, 1 or true where a pair is in; a row without any
            gives 0.
        weights: of the sets.
        two_way: average with the same loss from columns to rows.
        most: no logit is larger, a scalar, and none is `NARROW` less; both directions then share
            their exponentials. None where that is not known.
    """
    total, parts = _Contrast.apply(logits, masks, weights, (-1, -2) if two_way else (-1,), most)
    return Contrast(total, parts)


class _Softmax:
    """exp(logits) over its sum along every direction, as factors; and the sums' logarithms."""

    def __init__(self, logits: Tensor, directions: Sequence[int], most: Tensor | None) -> None:
        self.shared = most is not None
        if most is None:
            shifts = [logits.amax(direction, keepdim=True) for direction in directions]
            powers = [(logits - shift).exp_() for shift in shifts]
        else:
            shifts = [most] * len(directions)
            powers = [(logits - shifts[0]).exp_()] * len(directions)
        self.powers = powers
        self.sums = [
            power.sum(direction, keepdim=True)
            for power, direction in zip(powers, directions, strict=True)
        ]
        self.logarithms = [total.log() + one for total, one in zip(self.sums, shifts, strict=True)]

    def weighted(self, weights: Sequence[Tensor]) -> Tensor:
        """Sum over directions of weight * softmax; spends the exponentials."""
        scales = [weight / total for weight, total in zip(weights, self.sums, strict=True)]
        if self.shared:
            return self.powers[0].mul_(sum(scales[1:], start=scales[0]))
        result = self.powers[0].mul_(scales[0])
        for power, scale in zip(self.powers[1:], scales[1:], strict=True):
            result.addcmul_(power, scale)
        return result


class _Contrast(torch.autograd.Function):
    """The loss and, in the same passes, its gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        masks: Sequence[Tensor],
        weights: Sequence[float],
        directions: Sequence[int],
        most: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        softmax = _Softmax(logits, directions, most)
        share = 1 / (len(directions) * len(logits))
        push = [torch.zeros_like(total) for total in softmax.sums]
        pulls: list[Tensor] = []
        parts: list[Tensor] = []
        for mask, weight in zip(masks, weights, strict=True):
            pairs = mask.to(logits.dtype)
            counts = [pairs.sum(direction, keepdim=True) for direction in directions]
            shares = [1 / count.clamp(min=1) for count in counts]
            pull = sum(shares[1:], start=shares[0]) * pairs
            part = -torch.linalg.vecdot(pull.flatten(), logits.flatten())
            for place, (logarithm, count) in enumerate(
                zip(softmax.logarithms, counts, strict=True)
            ):
                some = count.clamp(max=1)
                part = part + (some * logarithm).sum()
                push[place] = push[place] + some * weight
            pulls.append(pull if weight == 1 else pull.mul_(weight))
            parts.append(part * share)
        if ctx.needs_input_grad[0]:
            gradient = softmax.weighted(push)
            for pull in pulls:
                gradient -= pull
            ctx.save_for_backward(gradient)
            ctx.share = share
        weighted = [part * weight for part, weight in zip(parts, weights, strict=True)]
        result = torch.stack(weighted).sum(0), torch.stack(parts)
        ctx.mark_non_differentiable(result[1])
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * (gradients[0] * ctx.share), None, None, None, None
