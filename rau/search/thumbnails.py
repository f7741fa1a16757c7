"""Thumbnails of images, as JPEG files."""

import io

from PIL import Image

QUALITY = 85


def thumbnail(image: Image.Image, side: int) -> bytes:
    """An image as a JPEG file with a longer side of at most `side` pixels."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
