"""The random numbers of a head, from a generator of its own, and the dropout that uses them."""

import torch
from torch import Generator, Tensor, nn

LEVELS = 1 << 16  # Of a 16-bit integer.
INT64_MIN = torch.iinfo(torch.int64).min


class Noise:
    """Random numbers of one head; from torch's default generator until `seed` is called."""

    def __init__(self) -> None:
        self.generator: Generator | None = None

    def seed(self, seed: int, device: torch.device) -> None:
        """Start a new sequence of numbers on a device."""
        self.generator = Generator(device).manual_seed(seed)

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers of the shape, type and device of `like`."""
        return torch.randn(
            like.shape, generator=self.generator, dtype=like.dtype, device=like.device
        )

    def dropout_mask(self, like: Tensor, keep: float) -> Tensor:
        """1 / keep where an entry of `like` is kept, else 0.

        One 16-bit integer per entry, four from each draw, because a Bernoulli draw per entry takes
        several times as long; `keep` is rounded to 1 / 65,536.
        """
        level = round(keep * LEVELS)
        if level >= LEVELS:
            return torch.ones_like(like)
        words = torch.empty(-(-like.numel() // 4), dtype=torch.int64, device=like.device)
        words.random_(INT64_MIN, None, generator=self.generator)
        bits = words.view(torch.int16)[: like.numel()].view(like.shape)
        # Compared in place as floats: a bool would cost a slow conversion.
        kept = bits.to(like.dtype).lt_(level - LEVELS // 2)
        return kept.mul_(LEVELS / level)


class Dropout(nn.Module):
    """Dropout with the head's own noise."""

    def __init__(self, share: float, noise: Noise) -> None:
        super().__init__()
        self.share, self.noise = share, noise

    def forward(self, rows: Tensor) -> Tensor:
        """(B, d) to (B, d)."""
        if not self.training or self.share == 0:
            return rows
        return rows * self.noise.dropout_mask(rows, 1 - self.share)
