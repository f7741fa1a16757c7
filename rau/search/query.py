"""Search with a trained head: a reference image and a caption to the best of a gallery."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rau.models.head import ComposedHead
from rau.retrieval.ranking import rank

BLOCK = 4096


@dataclass(frozen=True)
class Hit:
    """One image of the answer."""

    image_id: str
    score: float


def encode_gallery(head: ComposedHead, features: Tensor) -> Tensor:
    """Gallery vectors (G, d) of raw image features (G, d_image), in blocks."""
    blocks = torch.split(features, BLOCK)
    return torch.cat([head.encode_gallery(block.float())[0] for block in blocks])


def search(
    head: ComposedHead,
    reference: Tensor,
    text: Tensor,
    gallery: Tensor,
    gallery_ids: Sequence[str],
    top_k: int,
    removed: int = -1,
) -> tuple[list[Hit], float]:
    """The best images, and the uncertainty of the query.

    Args:
        reference: raw image feature, (d_image,).
        text: raw text feature, (d_text,).
        gallery: gallery vectors, (G, d).
        removed: place of the reference in the gallery, to leave it out; -1 for none.
    """
    query, uncertainty = head.encode_query(reference[None].float(), text[None].float())
    no_target = torch.tensor([-1], device=query.device)
    out = torch.tensor([removed], device=query.device)
    ranking = rank(query, gallery, no_target, out, top_k)
    pairs = zip(ranking.top[0].tolist(), ranking.scores[0].tolist(), strict=True)
    return [Hit(gallery_ids[i], score) for i, score in pairs if i >= 0], float(uncertainty[0])
