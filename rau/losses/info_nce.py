"""InfoNCE with sets of positives as one function with its own gradient.

For a set P of positives a row the loss is the mean over rows of -1/|P_i| times the sum over P_i of
log softmax (Khosla 2020, equation 2). Several sets over the same logits share what softmax costs,
both directions share the weights of the sets, and the gradient is made in the same passes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rau.nn.layers import per_run

# exp(-80) is still a normal number in float32.
NARROW = 80.0
TINY = 1e-35


class Contrast(NamedTuple):
    """The weighted sum of the sets' losses, which carries the gradient, and each by itself.

    A scalar and (sets,); of a stack (R,) and (sets, R).
    """

    total: Tensor
    parts: Tensor


def contrast(
    logits: Tensor,
    masks: Sequence[Tensor],
    weights: Sequence[float | Tensor],
    two_way: bool,
    valid: Tensor | None = None,
    most: Tensor | None = None,
) -> Contrast:
    """The loss of every set of positives.

    Args:
        logits: (B, B), rows are sources; of a stack (R, B, B).
        masks: sets of positives of that shape, 1 or true where a pair is in; a row without any
            gives 0.
        weights: of the sets, numbers or (R,).
        two_way: average with the same loss from columns to rows.
        valid: rows that are there, (R, B) bool, None for all; pairs of others are in no set, and
            their logits are far below the rest.
        most: no logit is larger, () or (R,), and none of rows that are there is `NARROW` less; both
            directions then share their exponentials. None where that is not known.
    """
    rows = logits.shape[-1] if valid is None else per_run(valid.sum(-1).to(logits.dtype))
    scales = [per_run(w) if isinstance(w, Tensor) else w for w in weights]
    total, parts = _Contrast.apply(
        logits, masks, scales, (-1, -2) if two_way else (-1,), rows, most
    )
    return Contrast(total, parts)


class _Softmax:
    """exp(logits) over its sum along every direction, as factors; and the sums' logarithms."""

    def __init__(self, logits: Tensor, directions: Sequence[int], most: Tensor | None) -> None:
        self.shared = most is not None
        if most is None:
            shifts = [logits.amax(direction, keepdim=True) for direction in directions]
            powers = [(logits - shift).exp_() for shift in shifts]
        else:
            shifts = [per_run(most)] * len(directions)
            powers = [(logits - shifts[0]).exp_()] * len(directions)
        self.powers = powers
        # A row that is not there may have no sum at all.
        self.sums = [
            power.sum(direction, keepdim=True).clamp_(min=TINY)
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
        weights: Sequence[float | Tensor],
        directions: Sequence[int],
        rows: int | Tensor,
        most: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        softmax = _Softmax(logits, directions, most)
        share = 1 / (len(directions) * rows)
        push = [torch.zeros_like(total) for total in softmax.sums]
        pulls: list[Tensor] = []
        parts: list[Tensor] = []
        for mask, weight in zip(masks, weights, strict=True):
            pairs = mask.to(logits.dtype)
            counts = [pairs.sum(direction, keepdim=True) for direction in directions]
            shares = [1 / count.clamp(min=1) for count in counts]
            pull = sum(shares[1:], start=shares[0]) * pairs
            part = -per_run(torch.linalg.vecdot(pull.flatten(-2), logits.flatten(-2)))
            for place, (logarithm, count) in enumerate(
                zip(softmax.logarithms, counts, strict=True)
            ):
                some = count.clamp(max=1)
                part = part + (some * logarithm).sum((-1, -2), keepdim=True)
                push[place] = push[place] + some * weight
            plain = isinstance(weight, float) and weight == 1
            pulls.append(pull if plain else pull.mul_(weight))
            parts.append(part * share)
        if ctx.needs_input_grad[0]:
            gradient = softmax.weighted(push)
            for pull in pulls:
                gradient -= pull
            ctx.save_for_backward(gradient)
            ctx.share = share
        weighted = [part * weight for part, weight in zip(parts, weights, strict=True)]
        result = torch.stack(weighted).sum(0)[..., 0, 0], torch.stack(parts)[..., 0, 0]
        ctx.mark_non_differentiable(result[1])
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * (per_run(gradients[0]) * ctx.share), None, None, None, None, None
