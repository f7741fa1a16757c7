"""Inspection of image files: complete decoding, limits on size, detection of placeholders."""

import hashlib
from dataclasses import dataclass
from typing import Literal

from rau.datasets.placeholders import is_placeholder
from rau.datasets.shape import check_shape
from rau.errors import UserError
from rau.pictures import open_rgb


@dataclass(frozen=True)
class ImageInfo:
    """The digest of a file and, if it is an image, its size in pixels and its format.

    `status` is `ok`, `corrupt` if the file cannot be used, or `missing` for a placeholder; `reason`
    explains a status other than `ok`.
    """

    status: Literal["ok", "corrupt", "missing"]
    sha256: str
    reason: str | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None


def inspect(content: bytes, placeholders: bool) -> ImageInfo:
    """Decode an image as `rau.pictures.open_rgb` does; one that is hardly more than a line is
    corrupt.

    Args:
        content: the file.
        placeholders: whether known placeholders count as missing.
    """
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        image = open_rgb(content)
        size = (image.width, image.height, image.format)
        if placeholders and is_placeholder(sha256, image):
            return ImageInfo("missing", sha256, "placeholder", *size)
        check_shape(image)
    except UserError as error:
        return ImageInfo("corrupt", sha256, str(error))
    return ImageInfo("ok", sha256, None, *size)
