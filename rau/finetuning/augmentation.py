"""Random changes of pictures, each drawn from a generator of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional as F

from rau.files import digest

SMALLEST_CROP = 0.8  # share of the area
COLOUR = 0.2  # brightness, contrast and saturation change by at most this share


@dataclass(frozen=True)
class Augmentation:
    """Changes by name: `flip`, `crop`, `colour`; the same for the same seed and row."""

    names: Sequence[str]

    def __call__(self, picture: Tensor, seed: int, row: int) -> Tensor:
        """A changed picture, uint8 (height, width, 3) to the same."""
        generator = Generator().manual_seed(int(digest([seed, row], 15), 16))
        # As many numbers whatever is done with them: one change does not alter another.
        flip, area, top, left, *colour = torch.rand(7, generator=generator).tolist()
        changed = picture.permute(2, 0, 1)
        if "flip" in self.names and flip < 0.5:
            changed = F.horizontal_flip(changed)
        if "crop" in self.names:
            height, width = picture.shape[:2]
            side = (SMALLEST_CROP + (1 - SMALLEST_CROP) * area) ** 0.5
            tall, wide = round(side * height), round(side * width)
            place = int(top * (height - tall + 1)), int(left * (width - wide + 1))
            changed = F.resized_crop(changed, *place, tall, wide, [height, width], antialias=True)
        if "colour" in self.names:
            for adjust, drawn in zip(
                (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation), colour, strict=True
            ):
                changed = adjust(changed, 1 + COLOUR * (2 * drawn - 1))
        return changed.permute(1, 2, 0).contiguous()
