"""Inspection of image files: decoded in full, bounded in size, and told from placeholders."""

import hashlib
import warnings
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

from PIL import Image, ImageFile

from rau.datasets.placeholders import is_placeholder

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 64 * 10**6
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
Status = Literal["ok", "corrupt", "missing"]


@dataclass(frozen=True)
class ImageInfo:
    """A file's digest and, where it is an image, its size in pixels and its format.

    `status` is `ok`, `corrupt` where the file is no complete image, `missing` for a placeholder.
    """

    status: Status
    sha256: str
    width: int | None = None
    height: int | None = None
    format: str | None = None


def inspect(content: bytes, placeholders: bool) -> ImageInfo:
    """Decode an image of at most `MAX_PIXELS` pixels.

    Args:
        content: the file.
        placeholders: whether known placeholders count as missing.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError("Pillow is set to accept truncated images; the manifest would lie")
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(BytesIO(content), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    return ImageInfo("corrupt", sha256)
                image.load()
                replaced = placeholders and is_placeholder(sha256, image)
                status: Status = "missing" if replaced else "ok"
                return ImageInfo(status, sha256, image.width, image.height, image.format)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        # What Pillow raises where the bytes are no image.
        return ImageInfo("corrupt", sha256)
