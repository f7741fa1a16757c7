"""Sizes of FashionIQ (https://github.com/XiaoxiaoGuo/fashion-iq), random features, head configs."""

import torch
from torch import Tensor

from rau.models.config import HeadConfig
from rau.params import Params
from rau.training.triplets import Triplets

WIDTHS = (128, 640, 1024)
TRAIN_QUERIES = 18_000
VAL_QUERIES = 6_016
# Total number of images of the three val galleries.
GALLERY = 15_536
IMAGES = 74_381
TEXTS = 72_000
CATEGORIES = 3
# For features with near neighbours: dimension of their subspace, standard deviation off it.
LATENT, OFF_PLANE = 24, 0.1


def random_features(
    count: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Standard normal features (count, width) on the CPU.

    They are drawn in blocks, so that float16 features are never all in memory as float32.
    """
    generator = torch.Generator().manual_seed(seed)
    features = torch.empty(count, width, dtype=dtype)
    for block in torch.split(features, 65_536):
        block.copy_(torch.randn(block.shape, generator=generator))
    return features


def low_features(count: int, width: int, seed: int = 0) -> Tensor:
    """Features (count, width) near a low-dimensional subspace, like those of encoders.

    Unlike standard normal features, they have near neighbours, which an approximate index can find.
    The subspace is the same for all seeds.
    """
    latent = random_features(count, LATENT, seed)
    plane = random_features(LATENT, width, seed=-1) / LATENT**0.5
    features: Tensor = latent @ plane + OFF_PLANE * random_features(count, width, seed=~seed)
    return features


def head_config(params: Params, width: int) -> HeadConfig:
    """Config of a head for image and text features of the same dimension in a shared space."""
    return HeadConfig.from_params(
        params.head,
        params.ua,
        params.train,
        d_image=width,
        d_text=width,
        shared_space=True,
        text_weight=0.5,
    )


def random_triplets(queries: int, images: int, texts: int, device: torch.device) -> Triplets:
    """Queries with random references and targets, and four random texts each."""
    generator = torch.Generator().manual_seed(0)

    def places(below: int, *shape: int) -> Tensor:
        return torch.randint(below, shape, generator=generator).to(device)

    return Triplets(
        reference=places(images, queries),
        target=places(images, queries),
        texts=places(texts, queries, 4),
        text_count=torch.full((queries,), 4, device=device),
        category=torch.arange(queries) % CATEGORIES,
        images=images,
    )
