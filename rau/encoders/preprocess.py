"""From a picture to a model's input size, as an encoder's configuration says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image, ImageOps

# The one key that open_clip's own configuration does not have; it passes over it.
TARGET_PAD = "target_pad"
Name = Literal["own", "stretch", "center", "targetpad"]
# What each name changes; "own" is what the encoder came with.
CHANGES: dict[Name, dict[str, Any]] = {
    "own": {},
    "stretch": {"resize_mode": "squash", TARGET_PAD: None},
    "center": {"resize_mode": "shortest", TARGET_PAD: None},
    "targetpad": {"resize_mode": "shortest", TARGET_PAD: 1.25},
}


@dataclass(frozen=True)
class TargetPad:
    """Pads a picture that is longer than `ratio` to that ratio, in black on both sides.

    A crop of the centre then loses little: CLIP4Cir's preprocessing (Baldrati et al. 2022,
    arXiv 2203.11815 and its code), in which the ratio is 1.25.
    """

    ratio: float

    def __call__(self, picture: Image.Image) -> Image.Image:
        """The padded picture."""
        width, height = picture.size
        least = max(width, height) / self.ratio
        sides = (max(0, int((least - length) / 2)) for length in (width, height))
        return ImageOps.expand(picture, (*sides,))


def transform(config: Mapping[str, Any]) -> Any:
    """The transforms of a configuration: from a PIL image to (3, height, width).

    The last two are open_clip's ToTensor and Normalize.
    """
    own = {key: value for key, value in config.items() if key != TARGET_PAD}
    made = image_transform_v2(PreprocessCfg(**own), is_train=False)
    if ratio := config.get(TARGET_PAD):
        made.transforms.insert(0, TargetPad(float(ratio)))
    return made
