"""Pictures sent by clients: a limited number in memory, the most recently used ones."""

from types import SimpleNamespace
from typing import cast

import torch
from PIL import Image

from rau.search.model import Model
from rau.service.uploads import Uploads
from tests.image_files import saved

MODEL = cast(Model, SimpleNamespace(image_feature=lambda picture: torch.zeros(2)))


def test_the_least_recently_used_picture_is_dropped() -> None:
    contents = [saved(Image.new("RGB", (4, 4 + n)), "PNG") for n in range(3)]
    held = Uploads(2)
    first, second = (held.add(content, MODEL) for content in contents[:2])
    assert (first.width, first.height) == (4, 4)
    # Used again, so that the second one is the oldest.
    assert held.get(first.id) is first
    held.add(contents[2], MODEL)
    assert len(held) == 2
    assert held.get(second.id) is None
    assert held.add(contents[0], MODEL) is first
