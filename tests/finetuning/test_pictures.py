"""Pictures for training: decoded once or at every step, changed at random by seed."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from rau.encoders.clip import Encoder
from rau.errors import UserError
from rau.features.item import Item, verified
from rau.finetuning import picture_store, pictures
from rau.finetuning.augmentation import Augmentation
from rau.progress import tqdm
from tests.finetuning import synthetic

ROWS = [torch.tensor([3, 1]), torch.tensor([0, 53, 7])]


def read(source: pictures.Pictures, seed: int = 0) -> list[torch.Tensor]:
    return [loaded(slice(None)) for loaded in source.steps(ROWS, seed)]


def test_cached_pictures_are_the_decoded_ones(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []

    def bar(*, desc: str, **options: Any) -> Any:
        titles.append(desc)
        return tqdm(desc=desc, **options)

    monkeypatch.setattr(picture_store, "tqdm", bar)
    items = synthetic.pictures(tmp_path / "images")
    cached, decoded = (
        picture_store.load(tmp_path / "store", encoder, items, (), cache, 2)
        for cache in ("always", "never")
    )
    assert titles == ["decode 1 MiB"], "the size is said first, and of what is stored alone"
    assert isinstance(cached, picture_store.CachedPictures)
    assert isinstance(decoded, pictures.DecodedPictures)
    for left, right in zip(read(cached), read(decoded), strict=True):
        assert left.equal(right)


@pytest.mark.parametrize("cache", ["always", "never"])
def test_a_step_may_have_no_picture(encoder: Encoder, tmp_path: Path, cache: str) -> None:
    """Of many processes those without one take part in the exchange of features all the same."""
    items = synthetic.pictures(tmp_path / "images")
    source = picture_store.load(tmp_path / "store", encoder, items, (), cache, 1)
    none, one = (loaded(slice(None)) for loaded in source.steps([ROWS[0][:0], ROWS[0][:1]], seed=0))
    assert none.shape == (0, *one.shape[1:])
    assert none.dtype == one.dtype
    assert encoder.encode_images(none).shape == (0, encoder.encode_images(one).shape[1])


@pytest.mark.parametrize("part", [slice(None), slice(0, 5), slice(3, 9), slice(8, 12), slice(7, 7)])
def test_a_slice_of_a_step_is_that_of_its_pictures(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: slice
) -> None:
    monkeypatch.setattr(pictures, "CHUNK", 4)
    items = synthetic.pictures(tmp_path / "images")
    source = picture_store.load(tmp_path / "store", encoder, items, (), "never", 1)
    rows = torch.arange(11, 0, -1)
    whole = encoder.load_images([Path(items[row].content) for row in rows.tolist()])
    for loaded in source.steps([rows, rows], 0):
        assert loaded(part).equal(whole[part])


def test_pictures_of_a_step_are_held_once(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those of the step before as well, nor a copy of all."""
    count, size, process = 1024, (224, 224, 3), psutil.Process()
    most, before = 0, process.memory_info().rss

    def sampled(*_: Any) -> torch.Tensor:
        nonlocal most
        most = max(most, process.memory_info().rss - before)
        return torch.ones(size, dtype=torch.uint8)

    monkeypatch.setattr(pictures, "verified", lambda item: item)
    monkeypatch.setattr(Encoder, "prepare", sampled)
    monkeypatch.setattr(Encoder, "crop", sampled)
    source = pictures.DecodedPictures(encoder, [Item("", "", "")] * count, (), 1)
    for loaded in source.steps([torch.arange(count)] * 2, 0):
        for start in range(0, count, pictures.CHUNK):
            loaded(slice(start, start + pictures.CHUNK))
    assert most < 1.5 * count * math.prod(size)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[str]]:
    """Counts what is decoded, and stops after a given number."""

    def count(most: int) -> list[str]:
        names: list[str] = []

        def stopping(item: Item) -> bytes:
            if len(names) == most:
                raise KeyboardInterrupt
            names.append(item.name)
            return own(item)

        for module in (pictures, picture_store):
            monkeypatch.setattr(module, "verified", stopping)
        return names

    own = verified
    return count


def test_decoding_goes_on_where_it_was_stopped(
    encoder: Encoder,
    tmp_path: Path,
    decoded: Callable[[int], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    items = synthetic.pictures(tmp_path / "images")
    monkeypatch.setattr(pictures, "CHUNK", 8)
    monkeypatch.setattr(picture_store, "CHUNK", 8)
    monkeypatch.setattr(picture_store, "SAVE_EVERY", 8)

    def load(cache: str) -> pictures.Pictures:
        return picture_store.load(tmp_path / "store", encoder, items, (), cache, 1)

    decoded(20)
    with pytest.raises(KeyboardInterrupt):
        load("always")
    names = decoded(1000)
    # What does not fit any more was reserved when it began.
    monkeypatch.setattr(picture_store, "SHARE_OF_DISK", 1e-12)
    cached = load("auto")
    assert isinstance(cached, picture_store.CachedPictures)
    assert 0 < len(names) < len(items)
    assert all(a.equal(b) for a, b in zip(read(cached), read(load("never")), strict=True))


def test_a_store_grows_by_what_it_lacks(
    encoder: Encoder, tmp_path: Path, decoded: Callable[[int], list[str]]
) -> None:
    items = synthetic.pictures(tmp_path / "images")
    names = decoded(1000)

    def load(own: list[Item], cache: str = "always") -> pictures.Pictures:
        return picture_store.load(tmp_path / "store", encoder, own, (), cache, 1)

    first = load(items[10:64])
    before = read(first)
    names.clear()
    everything = load(items[::-1])
    assert set(names) == {item.name for item in items[:10] + items[64:]}
    for kept, now in ((before, first), (read(load(items[::-1], "never")), everything)):
        assert all(a.equal(b) for a, b in zip(kept, read(now), strict=True))
    names.clear()
    load(items[5:])
    assert not names


@pytest.mark.parametrize("damage", ["short", "index"])
def test_a_damaged_store_is_one_line(encoder: Encoder, tmp_path: Path, damage: str) -> None:
    items = synthetic.pictures(tmp_path / "images")

    def load() -> pictures.Pictures:
        return picture_store.load(tmp_path / "store", encoder, items, (), "always", 1)

    load()
    (data,) = (tmp_path / "store").glob("*.bin")
    if damage == "short":
        data.write_bytes(data.read_bytes()[:-1])
    else:
        data.with_suffix(".json").write_text("{}")
    with pytest.raises(UserError, match=f"remove {data}"):
        load()
    data.unlink()
    load()


@pytest.mark.parametrize("quiet", [False, True])
def test_a_store_that_does_not_fit_is_left(
    quiet: bool,
    encoder: Encoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    items = synthetic.pictures(tmp_path / "images")
    monkeypatch.setattr(picture_store, "SHARE_OF_DISK", 1e-12)
    found = picture_store.load(tmp_path / "store", encoder, items, (), "auto", 1, quiet)
    assert isinstance(found, pictures.DecodedPictures)
    assert ("decoded each step" in capsys.readouterr().out) != quiet


def test_changes_are_of_the_seed_and_the_row(encoder: Encoder, tmp_path: Path) -> None:
    items = synthetic.pictures(tmp_path / "images")
    changes = ("flip", "crop", "colour")
    source = picture_store.load(tmp_path, encoder, items, changes, "auto", 2)
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
