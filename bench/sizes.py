"""Sizes of the real data sets, and synthetic features in their place.

FashionIQ: https://github.com/XiaoxiaoGuo/fashion-iq, CIRR: https://github.com/Cuberick-Orion/CIRR.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

WIDTHS = (128, 640, 1024)


@dataclass(frozen=True)
class DataSet:
    """How many of everything, and what its largest val gallery holds.

    Attributes:
        queries: of train.
        val_queries: of all categories.
        gallery: images of val's gallery, all categories together.
    """

    name: str
    queries: int
    images: int
    texts: int
    val_queries: int
    gallery: int
    categories: int


FASHIONIQ = DataSet("fashioniq", 18_000, 74_381, 72_000, 6_016, 15_536, 3)
CIRR = DataSet("cirr", 28_225, 21_551, 36_000, 4_181, 2_297, 1)


def random_features(
    count: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Random vectors (count, width) on the CPU, made in blocks."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.empty(count, width, dtype=dtype)
    for block in torch.split(features, 65_536):
        block.copy_(torch.randn(block.shape, generator=generator))
    return features
