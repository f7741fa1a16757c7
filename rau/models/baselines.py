"""Untrained methods: image only, text only, their sum raw, normalised and weighted.

Where image and text features have different widths, a ridge map from the text to the target image,
fitted on the train queries, stands in for the text's own feature.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from rau.methods import METHODS, RAW_SUM

WEIGHTS = tuple(round(0.05 * step, 2) for step in range(21))
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# Names of the two that read one modality alone; that of the text may have a suffix.
IMAGE_ONLY, TEXT_ONLY = "image only", "text only"


class RawSum:
    """r + t of features as they are: how CLIP4Cir composes with a fine-tuned CLIP."""

    def encode_query(self, reference: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Twice (B, d) to unit vectors (B, d) and no uncertainty (B,)."""
        return F.normalize(reference + text, dim=-1), reference.new_zeros(len(reference))

    def encode_gallery(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, d) to unit vectors (B, d) and no uncertainty (B,)."""
        return F.normalize(image, dim=-1), image.new_zeros(len(image))


@dataclass(frozen=True)
class WeightedSum:
    """(1 - w) * r + w * t of unit vectors; w = 0 is image only, w = 1 text only.

    `text_map` is (d_text + 1, d_image), its last row the offset, or None in a shared space.
    """

    text_weight: float
    text_map: Tensor | None = None

    def encode_query(self, reference: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """(B, d_image) and (B, d_text) to unit vectors (B, d_image) and no uncertainty (B,)."""
        mapped = apply_map(self.text_map, text)
        weight = self.text_weight
        mixed = (1 - weight) * F.normalize(reference, dim=-1) + weight * mapped
        return F.normalize(mixed, dim=-1), reference.new_zeros(len(reference))

    def encode_gallery(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, d_image) to unit vectors (B, d_image) and no uncertainty (B,)."""
        return F.normalize(image, dim=-1), image.new_zeros(len(image))


def apply_map(text_map: Tensor | None, text: Tensor) -> Tensor:
    """Unit text vectors in the image space, (B, d_image)."""
    unit = F.normalize(text, dim=-1)
    if text_map is None:
        return unit
    text_map = text_map.to(unit)
    return F.normalize(unit @ text_map[:-1] + text_map[-1], dim=-1)


def fit_ridge(text: Tensor, target: Tensor, ridge: float) -> Tensor:
    """Least squares from unit texts (N, d_text) to unit targets (N, d_image) with a penalty.

    Minimises the mean squared error plus `ridge` times the squared norm of the map; the offset is
    not penalised. Returns (d_text + 1, d_image), computed in float64 on the CPU: `mps` has none.
    """
    x, y = (F.normalize(one.cpu().double(), dim=-1) for one in (text, target))
    x_mean, y_mean = x.mean(0), y.mean(0)
    centred = x - x_mean
    gram = centred.T @ centred / len(x) + ridge * torch.eye(x.shape[1], dtype=x.dtype)
    weights = torch.linalg.solve(gram, centred.T @ (y - y_mean) / len(x))
    return torch.cat([weights, (y_mean - x_mean @ weights)[None]]).float().to(text.device)


def best_weight(score: Callable[[WeightedSum], float], text_map: Tensor | None) -> float:
    """The weight of the grid with the highest score; the smaller one among equals."""
    return max(WEIGHTS, key=lambda weight: (score(WeightedSum(weight, text_map)), -weight))


def untrained(
    text_weight: float | None, text_map: Tensor | None
) -> dict[str, RawSum | WeightedSum]:
    """All by the names that reports use.

    Args:
        text_weight: chosen on a holdout; None where there was none, and no weighted sum.
    """
    suffix = "" if text_map is None else " (ridge map)"
    raw = {METHODS[RAW_SUM].label: RawSum()} if text_map is None else {}
    found = raw | {
        IMAGE_ONLY: WeightedSum(0.0, text_map),
        f"{TEXT_ONLY}{suffix}": WeightedSum(1.0, text_map),
        f"sum{suffix}": WeightedSum(0.5, text_map),
    }
    if text_weight is not None:
        found[f"weighted sum{suffix}"] = WeightedSum(text_weight, text_map)
    return found
