"""Image and text features together on one device."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from rau.features.table import Features


@dataclass(frozen=True)
class FeatureSet:
    """Image and text features: their names, and their matrices once on the device, as stored."""

    images: Features
    texts: Features
    image_matrix: Tensor
    text_matrix: Tensor

    @classmethod
    def on(cls, device: torch.device, images: Features, texts: Features) -> Self:
        """Put both matrices on the device; on the CPU they are the features' own, not copies."""
        return cls(
            images,
            texts,
            torch.from_numpy(images.matrix).to(device),
            torch.from_numpy(texts.matrix).to(device),
        )

    @property
    def device(self) -> torch.device:
        """Where the matrices are."""
        return self.image_matrix.device

    def image_rows(self, rows: Tensor) -> Tensor:
        """Features (N, d_image) of image rows, float32 on the device."""
        return self.image_matrix[rows].float()

    def text_rows(self, rows: Tensor) -> Tensor:
        """Features (N, d_text) of text rows, float32 on the device."""
        return self.text_matrix[rows].float()
