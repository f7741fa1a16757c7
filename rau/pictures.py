"""Image files to 8-bit RGB: the only module that opens images.

The conversion is Pillow's own, as in other CIR implementations (open_clip, CLIP4Cir, SPRC), so that
features equal theirs: the alpha channel is dropped without compositing; EXIF orientation and ICC
profiles are not applied; the first frame or page is used. Pillow treats CMYK JPEGs as inverted, as
written by Adobe, and keeps the high byte of 16-bit colours. 16-bit grey levels, which Pillow would
clip at 255, are scaled here such that the largest value of the file's bit depth becomes 255.
32-bit integers and floating-point numbers have no known range to scale from and are refused.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from rau.errors import UserError
from rau.files import read_bytes

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 64 * 10**6
# None of them runs a program, unlike EPS (Ghostscript). JPEG includes MPO, PNG APNG.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
# The suffixes of their files, in lower case and in order of preference.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2")
TOO_LARGE = f"larger than {MAX_BYTES // 2**20} MiB"
TOO_MANY_PIXELS = f"more than {MAX_PIXELS // 10**6} megapixels"
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0


def open_rgb(source: Path | bytes) -> Image.Image:
    """Decode an image completely, as RGB; its `format` is that of the file.

    Raises:
        UserError: when it is missing, truncated, not in one of `FORMATS`, larger than `MAX_BYTES`
            or `MAX_PIXELS`, or cannot be converted faithfully; equal bytes give equal messages.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError("Pillow is set to accept truncated images")
    if isinstance(source, bytes):
        return _decode(source)
    content = read_bytes(source, MAX_BYTES, "check the file")
    try:
        return _decode(content)
    except UserError as error:
        raise UserError(f"{source} cannot be read as an image: {error}; check the file") from error


def as_rgb(source: Path | bytes | Image.Image) -> Image.Image:
    """An image returned by `open_rgb`, unchanged; for a path, `open_rgb` of it."""
    return source if isinstance(source, Image.Image) else open_rgb(source)


def _decode(content: bytes) -> Image.Image:
    if len(content) > MAX_BYTES:
        raise UserError(TOO_LARGE)
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(TOO_MANY_PIXELS)
            image.load()
            picture = to_rgb(image)
    except (UserError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"not an image of a known format ({', '.join(FORMATS)})") from error
    except Image.DecompressionBombError as error:
        raise UserError(TOO_MANY_PIXELS) from error
    except Exception as error:
        # Damaged bytes make Pillow's plugins raise almost anything.
        raise UserError(f"damaged ({' '.join(str(error).split())})") from error
    picture.format = image.format
    return picture


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to RGB, as `open_rgb` does for a file.

    Raises:
        UserError: when it cannot be converted faithfully.
    """
    if image.mode == "RGB":
        return image
    if image.mode == "La":
        return image.convert("LA").convert("RGB")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return _scaled(image).convert("RGB")
    if image.mode in ("I", "F"):
        raise UserError(f"values of mode {image.mode} have no known range; save with 8 or 16 bits")
    return image.convert("RGB")


def _scaled(image: Image.Image) -> Image.Image:
    """Convert grey levels of up to 16 bits to 8 bits, rounded."""
    tags = getattr(image, "tag_v2", {})
    top = 2 ** tags.get(BITS_PER_SAMPLE, (16,))[0] - 1
    levels = np.asarray(image).astype(np.uint32)
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        levels = top - levels
    return Image.fromarray(((levels * 255 + top // 2) // top).astype(np.uint8))
