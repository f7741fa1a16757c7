"""The two towers of an open_clip model, told apart by the names of their weights."""

import hashlib
from typing import Any, Literal

import torch

Side = Literal["image", "text"]
# Of CLIP's own loss; no feature depends on them.
SCALES = ("logit_scale", "logit_bias")


def side_of(weight: str) -> Side | None:
    """The tower that a weight belongs to, by its name in the model."""
    if weight in SCALES:
        return None
    return "image" if weight.startswith("visual.") else "text"


def digest_tower(model: Any, side: Side, recipe: str) -> str:
    """What the features of a tower depend on: its weights, and the digest of all else."""
    total = hashlib.sha256(recipe.encode())
    for name, value in sorted(model.state_dict().items()):
        if side_of(name) == side:
            total.update(f"\0{name} {value.dtype} {tuple(value.shape)}\0".encode())
            plain = value.detach().cpu().contiguous().reshape(-1)
            total.update(plain.view(torch.uint8).numpy().data)
    return total.hexdigest()[:16]
