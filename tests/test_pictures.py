"""Every picture is decoded in one place, faithfully or not at all."""

import ast
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from rau import pictures
from rau.datasets.image_files import inspect
from rau.datasets.placeholders import KNOWN
from rau.errors import UserError
from rau.pictures import open_rgb
from tests.image_files import saved
from tests.places import ROOT

RAMP = np.linspace(0, 255, 16).astype(np.uint8).reshape(4, 4).repeat(8, 0).repeat(8, 1)
COLOURS = np.stack([RAMP, 255 - RAMP, np.full_like(RAMP, 90)], axis=2)


def decoded(content: bytes) -> np.ndarray[Any, Any]:
    picture = open_rgb(content)
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(int)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
        ("JPEG2000", {}),
        ("PPM", {}),
        ("MPO", {"quality": 95, "subsampling": 0, "save_all": True}),
    ],
)
def test_formats(kind: str, options: dict[str, Any]) -> None:
    image = Image.fromarray(COLOURS)
    if kind == "MPO":
        options = options | {"append_images": [Image.new("RGB", image.size)]}
    content = saved(image, kind, **options)
    assert np.abs(decoded(content) - COLOURS).max() <= 6
    found = inspect(content, placeholders=False)
    assert (found.status, found.format, found.reason) == ("ok", kind, None)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB"]
)
def test_modes_are_what_pillow_makes_of_them(mode: str) -> None:
    image = Image.fromarray(COLOURS).convert("L" if mode in ("1", "LA", "PA") else "RGB")
    image = image.convert(mode) if mode != "LAB" else to_lab(image)
    content = saved(image, "PNG" if mode in ("1", "L", "LA", "P", "RGBA") else "TIFF")
    with Image.open(io.BytesIO(content)) as opened:
        assert opened.mode in (mode, "RGB")
        assert (decoded(content) == np.asarray(opened.convert("RGB"))).all()
    if mode in ("RGBA", "RGBX", "CMYK", "YCbCr", "LAB"):
        assert np.quantile(np.abs(decoded(content) - COLOURS), 0.8) <= 5


def to_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    turned = ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    assert turned is not None
    return turned


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000", "PPM"])
def test_grey_of_16_bits_is_scaled(kind: str) -> None:
    levels = RAMP.astype(np.uint16) * 257
    found = decoded(saved(Image.fromarray(levels), kind))
    assert np.abs(found - RAMP[..., None]).max() <= 1
    assert (found.min(), found.max()) == (0, 255)


def test_grey_tiff_with_white_as_zero_and_of_either_byte_order() -> None:
    levels = RAMP.astype(np.uint16) * 257
    turned = saved(Image.fromarray(65535 - levels), "TIFF", tiffinfo={262: 0})
    big = saved(Image.frombytes("I;16B", RAMP.shape, levels.astype(">u2").tobytes()), "TIFF")
    for content in (turned, big):
        assert (decoded(content) == RAMP[..., None]).all()


def test_grey_of_12_bits() -> None:
    # No writer of Pillow's: two values of 12 bits in three bytes, in an otherwise plain TIFF.
    content = bytearray(saved(Image.fromarray(np.array([[0, 0]], np.uint16)), "TIFF"))
    with Image.open(io.BytesIO(content)) as opened:
        place = opened.tag_v2[273][0]  # type: ignore[attr-defined]
    bits = content.index(b"\x02\x01\x03\x00\x01\x00\x00\x00\x10\x00")
    content[bits + 8] = 12
    content[place : place + 3] = b"\x80\x0f\xff"  # 2048 and 4095
    assert decoded(bytes(content))[0, :, 0].tolist() == [128, 255]


def test_alpha_is_left_out_as_open_clip_does() -> None:
    image = Image.fromarray(COLOURS)
    image.putalpha(0)
    assert (decoded(saved(image, "PNG")) == COLOURS).all()
    palette = Image.fromarray(COLOURS).quantize(16)
    plain, clear = saved(palette, "PNG"), saved(palette, "PNG", transparency=0)
    assert (decoded(plain) == decoded(clear)).all()


def test_cmyk_jpegs_are_inverted_as_adobe_writes_them() -> None:
    content = saved(Image.fromarray(COLOURS).convert("CMYK"), "JPEG", quality=95, subsampling=0)
    assert np.abs(decoded(content) - COLOURS).max() <= 8


def test_the_first_frame_and_no_turn() -> None:
    first = Image.fromarray(COLOURS)
    frames = {"save_all": True, "append_images": [Image.new("RGB", first.size)]}
    for kind in ("TIFF", "PNG"):
        assert (decoded(saved(first, kind, **frames)) == COLOURS).all()
    gif = saved(first, "GIF", **frames)
    assert np.abs(decoded(gif) - COLOURS).max() <= 40
    turned = Image.Exif()
    turned[274] = 6
    wide = saved(first.resize((20, 10)), "JPEG", exif=turned)
    assert open_rgb(wide).size == (20, 10)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (Image.fromarray(RAMP.astype(np.float32)), "mode F have no known range"),
        (Image.fromarray(RAMP.astype(np.int32)), "mode I have no known range"),
    ],
)
def test_what_has_no_range_is_refused(image: Image.Image, reason: str) -> None:
    found = inspect(saved(image, "TIFF"), placeholders=False)
    assert found.status == "corrupt"
    assert reason in str(found.reason)


def test_a_format_that_runs_a_program_is_never_opened(tmp_path: Path) -> None:
    for kind in ("EPS", "ICO", "PCX"):
        content = saved(Image.fromarray(COLOURS), kind)
        with pytest.raises(UserError, match="not an image of a known format"):
            open_rgb(content)
    (tmp_path / "x.jpg").write_bytes(saved(Image.fromarray(COLOURS), "EPS"))
    with pytest.raises(UserError, match=r"x\.jpg cannot be read as an image: not an image"):
        open_rgb(tmp_path / "x.jpg")


def test_bombs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(Image.fromarray(COLOURS), "PNG")
    monkeypatch.setattr(pictures, "MAX_PIXELS", 100)
    with pytest.raises(UserError, match="megapixels"):
        open_rgb(content)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UserError, match="megapixels"):
        open_rgb(content)
    monkeypatch.setattr(pictures, "MAX_BYTES", 100)
    with pytest.raises(UserError, match="larger than"):
        open_rgb(content)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "AVIF", "PPM"])
def test_damaged_bytes_are_read_or_refused_in_the_same_words(kind: str) -> None:
    whole = saved(Image.fromarray(COLOURS), kind)
    rng = np.random.default_rng(0)
    for _ in range(60):
        content = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        for place in rng.integers(0, len(content), 3):
            content[place] = rng.integers(256)
        said = [inspect(bytes(content), placeholders=False).reason for _ in range(2)]
        assert said[0] == said[1]
        assert "0x" not in str(said[0])


def test_truncated_pictures_are_never_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(RuntimeError, match="truncated"):
        open_rgb(saved(Image.fromarray(COLOURS), "PNG"))


def test_placeholders_have_a_reason() -> None:
    found = inspect(saved(Image.new("RGB", (1, 1)), "GIF"), placeholders=True)
    assert (found.status, found.reason) == ("missing", "placeholder")
    assert len(KNOWN) == 3


def test_nothing_else_opens_pictures() -> None:
    opens = [
        path
        for path in [*(ROOT / "rau").rglob("*.py"), *(ROOT / "pipeline").rglob("*.py")]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "Image.open"
    ]
    assert opens == [ROOT / "rau/pictures.py"]
