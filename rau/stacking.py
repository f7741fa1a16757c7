"""Several heads of one shape as one: their weights side by side, their products in one batch.

The weights lie in two long tensors, of those that decay and those that do not, the R versions of
a parameter one after another. Every head's parameters are views of its own, the stack's are views
of all: an update of one is seen by the other, and nothing is ever copied.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rau.head import ComposedHead, HeadConfig

# Their fusion and loss treat rows one by one: padding a batch changes nothing. TIRG's batch norm,
# MUR's spread and PCME++'s mean over all pairs would see the padding.
STACKABLE = ("rau", "deterministic", "combiner", "weighted_sum")


class HeadStack:
    """Heads of one architecture with common storage for weights and gradients.

    Attributes:
        heads: each by itself, (B, d) at a time.
        head: all at once, (R, B, d) at a time; of a single head that head itself.
        weights: (R * P,) each: matrices, which decay, and biases, norms and the temperature, which
            have no reason to shrink; empty where nothing is learned.
    """

    def __init__(
        self, configs: Sequence[HeadConfig], seeds: Sequence[int], device: torch.device
    ) -> None:
        """Make a head of every configuration, its weights drawn from its seed."""
        self.heads = [_made(*pair, device) for pair in zip(configs, seeds, strict=True)]
        single = len(self.heads) == 1
        self.head = self.heads[0] if single else _made(configs[0], seeds[0], device)
        shapes = {name: value.shape for name, value in self.head.named_parameters()}
        matrices = [name for name, shape in shapes.items() if len(shape) > 1]
        others = [name for name, shape in shapes.items() if len(shape) <= 1]
        stored = [names for names in (matrices, others) if names]
        self._decays = [names is matrices for names in stored]
        self.weights = [self._store(names) for names in stored]
        self._groups = [[self.head.get_parameter(name) for name in names] for names in stored]
        if not single:
            for name, _ in list(self.head.named_buffers()):
                _place(self.head, name, torch.stack([h.get_buffer(name) for h in self.heads]))

    def _store(self, names: Sequence[str]) -> nn.Parameter:
        """Move parameters of all heads into one tensor, their gradients into another."""
        count = len(self.heads)
        own = [[head.get_parameter(name).detach() for head in self.heads] for name in names]
        weight = nn.Parameter(torch.cat([torch.stack(rows).flatten() for rows in own]))
        weight.grad = torch.zeros_like(weight)
        sizes = [count * rows[0].numel() for rows in own]
        parts = torch.split(weight.detach(), sizes)
        for name, rows, values in zip(names, own, parts, strict=True):
            values = values.view(count, *rows[0].shape)
            for head, value in zip(self.heads, values, strict=True):
                _place(head, name, nn.Parameter(value))
            if count > 1:
                _place(self.head, name, nn.Parameter(values))
        return weight

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """What an optimizer takes."""
        pairs = zip(self.weights, self._decays, strict=True)
        return [{"params": [w], "weight_decay": weight_decay * decays} for w, decays in pairs]

    def backward(self, loss: Tensor) -> Tensor:
        """Take the gradient of a scalar; returns the norm of each head's own, (R,)."""
        every = [parameter for group in self._groups for parameter in group]
        found = iter(torch.autograd.grad(loss, every, allow_unused=True, materialize_grads=True))
        count = len(self.heads)
        squares = loss.new_zeros(count)
        for weight, group in zip(self.weights, self._groups, strict=True):
            assert weight.grad is not None  # Made with the weight, and never taken away.
            gradients = [next(found).flatten() for _ in group]
            torch.cat(gradients, out=weight.grad)
            for part in gradients if count > 1 else [weight.grad]:
                squares += torch.linalg.vector_norm(part.view(count, -1), dim=-1).square()
        return squares.sqrt()


def _made(config: HeadConfig, seed: int, device: torch.device) -> ComposedHead:
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        return ComposedHead(config).to(device)


def _place(head: ComposedHead, name: str, value: Tensor) -> None:
    """Put a parameter or a buffer in the place of the one of that name."""
    owner, _, own = name.rpartition(".")
    setattr(head.get_submodule(owner), own, value)
