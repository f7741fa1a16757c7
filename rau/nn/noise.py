"""The random numbers of a training step, from a generator of each run's own.

A run draws the same numbers alone and beside others in a stack: rows are drawn for the largest
batch of the run's own epochs, whatever the rows that the stack needs.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

LEVELS = 1 << 16  # Of a 16-bit integer.
LEAST = torch.iinfo(torch.int64).min


class Noise:
    """Noise for one head or for a stack of R; torch's own generator until `bind`."""

    def __init__(self) -> None:
        self.generators: list[Generator] = []
        self._capacity: list[int] = []
        self._owner: list[int] = []

    def bind(self, seeds: Sequence[int], capacity: Sequence[int], device: torch.device) -> None:
        """Give every run a generator; runs of one seed and one capacity share theirs.

        Args:
            seeds: of the runs, (R,).
            capacity: rows that each run draws at a time, (R,).
            device: of the numbers.
        """
        sources = list(dict.fromkeys(zip(seeds, capacity, strict=True)))
        self.generators = [Generator(device) for _ in sources]
        self._capacity = [rows for _, rows in sources]
        self._owner = [sources.index(own) for own in zip(seeds, capacity, strict=True)]
        self._seeds = [seed for seed, _ in sources]

    def restart(self, stream: Callable[[int], int]) -> None:
        """Begin anew: `stream` makes a generator's seed from its run's."""
        for generator, seed in zip(self.generators, self._seeds, strict=True):
            generator.manual_seed(stream(seed))

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers of the shape and kind of `like`, ([R,] B, d)."""

        def draw(shape: Sequence[int], generator: Generator | None) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)

        return self._draw(like, draw)

    def keep(self, like: Tensor, share: float) -> Tensor:
        """Dropout's factors: 1 / share where an entry of `like` ([R,] B, d) is kept, else 0.

        One 16-bit integer an entry, four from each draw: the share is rounded to 1 / 65,536.
        """
        level = round(share * LEVELS)

        def draw(shape: Sequence[int], generator: Generator | None) -> Tensor:
            rows, width = shape[-2:]
            count = rows * width
            words = torch.empty(-(-count // 4), dtype=torch.int64, device=like.device)
            bits = words.random_(LEAST, None, generator=generator).view(torch.int16)[:count]
            # Compared in place as floats: a bool would cost a slow conversion.
            kept = bits.to(like.dtype).lt_(level - LEVELS // 2)
            return kept.mul_(LEVELS / level).view(rows, width)

        return torch.ones_like(like) if level >= LEVELS else self._draw(like, draw)

    def _draw(
        self, like: Tensor, make: Callable[[Sequence[int], Generator | None], Tensor]
    ) -> Tensor:
        if not self.generators:
            return make(like.shape, None)
        rows, width = like.shape[-2:]
        drawn = [
            _fit(make((capacity, width), generator), rows)
            for generator, capacity in zip(self.generators, self._capacity, strict=True)
        ]
        if like.ndim == 2:
            return drawn[0]
        return torch.stack([drawn[owner] for owner in self._owner])


def _fit(drawn: Tensor, rows: int) -> Tensor:
    """The first rows; zeros for those that only other runs of the stack have."""
    missing = rows - len(drawn)
    return F.pad(drawn, (0, 0, 0, missing)) if missing > 0 else drawn[:rows]
