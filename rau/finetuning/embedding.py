"""Features of a batch's inputs, and the way of their gradient back into a tower."""

from collections.abc import Callable

import torch
from torch import Tensor


class Embedding:
    """Features of N inputs, encoded `piece` at a time.

    Only the last piece keeps its graph. The others are computed without one, and anew once the
    gradient of their features is known, so that the graph of one piece is all that is ever held:
    cached contrastive gradients (GradCache, Gao et al. 2021, arXiv 2101.06983).

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
        *others, last = self._pieces
        with torch.no_grad():
            outputs = [self._run(piece) for piece in others]
        self._kept = self._run(last)
        self.values = torch.cat([*outputs, self._kept.detach()])

    def backward(self, gradient: Tensor) -> None:
        """Add the gradients of the tower's weights, from that of the features, (N, d)."""
        *others, last = self._pieces
        torch.autograd.backward(self._kept, gradient[last])
        for piece in others:
            torch.autograd.backward(self._run(piece), gradient[piece])

    def _run(self, piece: slice) -> Tensor:
        with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(self._seed + piece.start)
            return self._encode(piece)
