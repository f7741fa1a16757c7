"""Shapes of images that are refused before an encoder scales them."""

from pathlib import Path

from PIL import Image

from rau.errors import UserError

# Most encoders scale the shorter side to that of their input and crop then: 60,000 x 1 pixels, a
# file of a few hundred bytes, would become 12 GB.
MAX_RATIO = 100


def check_shape(image: Image.Image, source: object = None) -> None:
    """Refuse an image that is hardly more than a line.

    Args:
        source: where it comes from; a path is named in the error.

    Raises:
        UserError: when a side is more than `MAX_RATIO` times as long as the other.
    """
    if max(image.size) > MAX_RATIO * min(image.size):
        name = f"{source}: " if isinstance(source, Path) else ""
        width, height = image.size
        raise UserError(
            f"{name}{width:,} x {height:,} pixels, one side is more than {MAX_RATIO} times as long "
            "as the other; crop the image"
        )
