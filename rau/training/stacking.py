"""Several heads of one shape as one: their weights side by side, their products in one batch.

Each parameter's R versions lie in one tensor. Every head's parameters are views of its own part,
the stack's are the whole: an update of one is seen by the other, and nothing is ever copied.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rau.models.head import ComposedHead, HeadConfig

# Their fusion and loss treat rows one by one: padding a batch changes nothing. TIRG's batch norm,
# MUR's spread and PCME++'s mean over all pairs would see the padding.
STACKABLE = ("rau", "deterministic", "combiner", "weighted_sum")


class HeadStack:
    """Heads of one architecture with common storage for their weights.

    Attributes:
        heads: each by itself, (B, d) at a time.
        head: all at once, (R, B, d) at a time; of a single head that head itself.
        weights: parameters of `head`; empty where nothing is learned.
    """

    def __init__(
        self, configs: Sequence[HeadConfig], seeds: Sequence[int], device: torch.device
    ) -> None:
        """Make a head of every configuration, its weights drawn from its seed."""
        self.heads = [_made(*pair, device) for pair in zip(configs, seeds, strict=True)]
        self.head = self.heads[0]
        if len(self.heads) > 1:
            self.head = _made(configs[0], seeds[0], device)
            for name, _ in list(self.head.named_parameters()):
                self._join(name)
            for name, _ in list(self.head.named_buffers()):
                _place(self.head, name, torch.stack([h.get_buffer(name) for h in self.heads]))
        self.weights = list(self.head.parameters())

    def _join(self, name: str) -> None:
        """Move a parameter of all heads into one tensor."""
        own = torch.stack([head.get_parameter(name).detach() for head in self.heads])
        _place(self.head, name, nn.Parameter(own))
        for head, value in zip(self.heads, own, strict=True):
            _place(head, name, nn.Parameter(value))

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """What an optimizer takes: matrices decay; biases, norms and the temperature, which have
        no reason to shrink, do not."""
        # By the shapes of one head: a stack's have R in front.
        pairs = list(zip(self.weights, self.heads[0].parameters(), strict=True))
        matrices = [weight for weight, own in pairs if own.ndim > 1]
        others = [weight for weight, own in pairs if own.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]

    def backward(self, loss: Tensor) -> Tensor:
        """Take the gradient of a scalar; returns the norm of each head's own, (R,)."""
        found = torch.autograd.grad(loss, self.weights, allow_unused=True, materialize_grads=True)
        # The fused optimizer goes through weights and gradients in the order of memory.
        gradients = [one.contiguous() for one in found]
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient
        count = len(self.heads)
        norms = [torch.linalg.vector_norm(one.view(count, -1), dim=-1) for one in gradients]
        return torch.as_tensor(torch.linalg.vector_norm(torch.stack(norms), dim=0))


def _made(config: HeadConfig, seed: int, device: torch.device) -> ComposedHead:
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        return ComposedHead(config).to(device)


def _place(head: ComposedHead, name: str, value: Tensor) -> None:
    """Put a parameter or a buffer in the place of the one of that name."""
    owner, _, own = name.rpartition(".")
    setattr(head.get_submodule(owner), own, value)
