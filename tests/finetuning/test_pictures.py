"""Pictures for training: decoded once or at every step, changed at random by seed."""

from pathlib import Path

import pytest
import torch

from rau.encoders.clip import Encoder
from rau.features import extraction
from rau.finetuning import pictures
from rau.finetuning.augmentation import Augmentation
from tests.finetuning import world

ROWS = [torch.tensor([3, 1]), torch.tensor([0, 53, 7])]


def read(source: pictures.Pictures, seed: int = 0) -> list[torch.Tensor]:
    return [loaded(slice(None)) for loaded in source.steps(ROWS, seed)]


def test_cached_pictures_are_the_decoded_ones(encoder: Encoder, tmp_path: Path) -> None:
    items = world.pictures(tmp_path / "images")
    said: list[str] = []
    cached, decoded = (
        pictures.load(tmp_path / "store", encoder, items, (), cache, 2, said.append)
        for cache in ("always", "never")
    )
    assert isinstance(cached, pictures.CachedPictures)
    assert isinstance(decoded, pictures.DecodedPictures)
    for left, right in zip(read(cached), read(decoded), strict=True):
        assert left.equal(right)
    assert "72 pictures decoded once: 1 MiB" in said[0]
    # Once more nothing is decoded.
    pictures.load(tmp_path / "store", encoder, items, (), "always", 2, said.append)
    assert len(said) == 1


def test_decoding_goes_on_where_it_was_stopped(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = world.pictures(tmp_path / "images")
    monkeypatch.setattr(pictures, "CHUNK", 8)
    monkeypatch.setattr(pictures, "SAVE_EVERY", 8)
    own, left, decoded = extraction.verified, 20, 0

    def stopping(item: extraction.Item) -> bytes:
        nonlocal decoded
        decoded += 1
        if decoded > left:
            raise KeyboardInterrupt
        return own(item)

    monkeypatch.setattr("rau.finetuning.pictures.verified", stopping)
    with pytest.raises(KeyboardInterrupt):
        pictures.load(tmp_path / "store", encoder, items, (), "always", 1)
    left, decoded = 1000, 0
    cached = pictures.load(tmp_path / "store", encoder, items, (), "always", 1)
    assert 0 < decoded < len(items)
    monkeypatch.setattr("rau.finetuning.pictures.verified", own)
    plain = pictures.load(tmp_path / "store", encoder, items, (), "never", 1)
    assert all(a.equal(b) for a, b in zip(read(cached), read(plain), strict=True))


def test_a_store_that_does_not_fit_is_left(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = world.pictures(tmp_path / "images")
    monkeypatch.setattr(pictures, "SHARE_OF_DISK", 1e-12)
    said: list[str] = []
    found = pictures.load(tmp_path / "store", encoder, items, (), "auto", 1, said.append)
    assert isinstance(found, pictures.DecodedPictures)
    assert "decoded each step" in said[0]


def test_changes_are_of_the_seed_and_the_row(encoder: Encoder, tmp_path: Path) -> None:
    items = world.pictures(tmp_path / "images")
    source = pictures.load(
        tmp_path, encoder, items, ("flip", "crop", "colour"), "auto", 2, lambda text: None
    )
    first, again, other = read(source), read(source), read(source, seed=1)
    assert all(a.equal(b) for a, b in zip(first, again, strict=True))
    assert not any(a.equal(b) for a, b in zip(first, other, strict=True))


def test_every_change_does_what_its_name_says() -> None:
    picture = torch.randint(256, (8, 8, 3), dtype=torch.uint8, generator=torch.manual_seed(0))
    flipped = [Augmentation(["flip"])(picture, 0, row) for row in range(40)]
    kinds = {one.equal(picture) for one in flipped}
    assert kinds == {True, False}
    assert all(one.equal(picture) or one.equal(picture.flip(1)) for one in flipped)
    cropped = Augmentation(["crop"])(picture, 0, 0)
    assert cropped.shape == picture.shape
    grey = torch.full((4, 4, 3), 100, dtype=torch.uint8)
    coloured = {int(Augmentation(["colour"])(grey, 0, row)[0, 0, 0]) for row in range(40)}
    assert min(coloured) >= 79
    assert max(coloured) <= 121
    assert len(coloured) > 10
