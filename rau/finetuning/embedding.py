"""Features of a batch's inputs, and the way of their gradient back into a tower."""

from collections.abc import Callable

import torch
from torch import Tensor


class Embedding:
    """Features of N inputs, encoded `piece` at a time.

    In one piece the graph is kept. In several, features are computed without a graph, and each
    piece anew once the gradient of its features is known, so that the graph of one piece is all
    that is ever held: cached contrastive gradients (GradCache, Gao et al. 2021, arXiv 2101.06983).

    Attributes:
        values: (N, d), without gradient.
    """

    def __init__(
        self,
        encode: Callable[[slice], Tensor],
        count: int,
        piece: int | None,
        seed: int,
        device: torch.device,
    ) -> None:
        """Encode.

        Args:
            encode: features (n, d) of a slice of the inputs.
            count: N.
            piece: inputs in one forward pass; None for all.
            seed: of the tower's own dropout, the same when a piece is computed anew.
            device: that the tower draws on.
        """
        self._encode, self._seed, self._device = encode, seed, device
        size = piece or max(1, count)
        self._pieces = [slice(at, min(at + size, count)) for at in range(0, max(1, count), size)]
        with torch.set_grad_enabled(len(self._pieces) == 1):
            outputs = [self._run(piece) for piece in self._pieces]
        self._kept = outputs[0] if len(outputs) == 1 else None
        self.values = torch.cat([output.detach() for output in outputs])

    def backward(self, gradient: Tensor) -> None:
        """Add the gradients of the tower's weights, from that of the features, (N, d)."""
        for piece in self._pieces:
            output = self._run(piece) if self._kept is None else self._kept
            torch.autograd.backward(output, gradient[piece])
        self._kept = None

    def _run(self, piece: slice) -> Tensor:
        with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(self._seed + piece.start)
            return self._encode(piece)
