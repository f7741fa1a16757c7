"""Search ranks a gallery by the cosine with the head's query, and leaves out what it is told to."""

import pytest
import torch
from torch import Tensor

from rau.models.head import ComposedHead
from rau.search.query import encode_gallery, search
from tests.heads import small_config

IDS = [f"image {number}" for number in range(9)]


def features(seed: int, rows: int) -> Tensor:
    return torch.randn(rows, 16, generator=torch.Generator().manual_seed(seed)) * 5


@pytest.fixture(name="head")
def _head() -> ComposedHead:
    torch.manual_seed(0)
    return ComposedHead(small_config(n=1)).eval()


@pytest.mark.parametrize("removed", [-1, 3])
def test_hits_are_the_gallery_by_cosine_without_the_removed_image(
    head: ComposedHead, removed: int
) -> None:
    images = features(1, len(IDS))
    reference, text = images[3], features(2, 1)[0]
    gallery = encode_gallery(head, images)
    hits, uncertainty = search(head, reference, text, gallery, IDS, 5, removed)
    query, sigma = head.encode_query(reference[None], text[None])
    cosines = (head.encode_gallery(images)[0] @ query[0]).tolist()
    order = sorted(range(len(IDS)), key=lambda place: -cosines[place])
    assert 3 in order[:5], "the reference would be among the hits"
    expected = [place for place in order if place != removed][:5]
    assert [hit.image_id for hit in hits] == [IDS[place] for place in expected]
    assert [hit.score for hit in hits] == pytest.approx([cosines[place] for place in expected])
    assert uncertainty == pytest.approx(sigma.item())


def test_a_small_gallery_gives_no_more_hits_than_it_has(head: ComposedHead) -> None:
    images = features(1, 3)
    gallery = encode_gallery(head, images.half())
    assert len(search(head, images[0], features(2, 1)[0], gallery, IDS, 5)[0]) == 3
    assert len(search(head, images[0], features(2, 1)[0], gallery, IDS, 5, 0)[0]) == 2
