"""Images of garments: one garment under random placement, light, background and noise."""

import cmath
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from rau.datasets.garments.attributes import PAINTS, Garment
from rau.datasets.garments.painting import Frame, Pen, cloth, silhouette, tint
from rau.datasets.garments.shapes import TOP_Y, shape

SUPERSAMPLE = 2
Field = NDArray[np.float32]


@dataclass(frozen=True)
class Nuisance:
    """Everything in an image that no caption mentions."""

    zoom: float
    turn: float
    offset: complex
    arm: float
    phase: float
    hue: tuple[float, ...]
    backdrop: Field  # (2, 3): colours at the top and the bottom
    light: complex  # direction and strength of the fall-off
    folds: tuple[float, ...]  # frequency, wobble, strength, phase
    grain: float

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Nuisance":
        """Draw one; the random stream advances alike whatever the garment."""
        tone = rng.uniform(150, 250) + rng.uniform(-12, 12, 3)
        top = tone + rng.uniform(-14, 14)
        return cls(
            zoom=rng.uniform(0.78, 0.90),
            turn=rng.uniform(-0.10, 0.10),
            offset=complex(rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03)),
            arm=rng.uniform(0.90, 1.15),
            phase=rng.uniform(),
            hue=tuple(rng.uniform(0.93, 1.06) + rng.uniform(-0.02, 0.02, 3)),
            backdrop=np.stack([top, tone]).astype(np.float32),
            light=cmath.rect(rng.uniform(0.04, 0.18), rng.uniform(0, 2 * np.pi)),
            folds=(
                rng.uniform(3, 6),
                rng.uniform(0.4, 1.4),
                rng.uniform(0.04, 0.11),
                rng.uniform(0, 6.3),
            ),
            grain=rng.uniform(2, 6),
        )


def _shading(frame: Frame, nuisance: Nuisance, size: int) -> tuple[Field, Field]:
    """Brightness factors (size, size) of the room's light and of the folds of the cloth."""
    steps = np.arange(size, dtype=np.float32)
    room = (
        1
        + nuisance.light.real * (steps / size - 0.5)
        + (nuisance.light.imag * (steps[:, None] / size - 0.5))
    )
    at = (steps + 0.5) * SUPERSAMPLE
    inverse = 1 / frame.scale
    origin = -frame.shift * inverse
    x = inverse.real * at - inverse.imag * at[:, None] + origin.real
    y = inverse.imag * at + inverse.real * at[:, None] + origin.imag
    frequency, wobble, strength, phase = nuisance.folds
    waves = np.sin(2 * np.pi * frequency * x + wobble * np.sin(7 * y + phase) + phase)
    folds = 1 + strength * waves * np.clip(2.5 * (y - 0.2), 0.2, 1) - 1.1 * x * x
    return room.astype(np.float32), folds.astype(np.float32)


def draw(garment: Garment, size: int, rng: np.random.Generator) -> Image.Image:
    """Draw `garment` as an RGB image of `size` × `size` pixels; `rng` gives all that varies."""
    nuisance = Nuisance.sample(rng)
    outlines = shape(garment, nuisance.arm)
    side = SUPERSAMPLE * size
    scale = nuisance.zoom * side * cmath.rect(1, nuisance.turn)
    centre = complex(0, (TOP_Y + outlines.hem_y) / 2)
    frame = Frame(scale, side * (0.5 + 0.5j + nuisance.offset) - scale * centre)
    canvas = Image.new("RGB", (side, side), tint(PAINTS[garment.colour].rgb, nuisance.hue))
    cloth(Pen(canvas, frame), garment, outlines, nuisance.hue, nuisance.phase)
    covered = Image.new("L", (side, side))
    silhouette(Pen(covered, frame), garment, outlines)
    # The cloth goes before the backdrop, with its shadow, folds, light and grain.
    room, folds = _shading(frame, nuisance, size)
    covered = covered.reduce(SUPERSAMPLE)
    blurred = covered.filter(ImageFilter.BoxBlur(size / 32))
    mask, halo = (np.asarray(image, dtype=np.float32) / 255 for image in (covered, blurred))
    fall = max(1, size // 40)
    shadow = 1 - 0.4 * np.roll(halo, (fall, fall), axis=(0, 1))
    ramp = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    backdrop = nuisance.backdrop[0] * (1 - ramp) + nuisance.backdrop[1] * ramp
    pixels = np.asarray(canvas.reduce(SUPERSAMPLE), dtype=np.float32) * (mask * folds)[..., None]
    pixels += backdrop * ((1 - mask) * shadow)[..., None]
    pixels *= room[..., None]
    pixels += nuisance.grain * rng.standard_normal((size, size, 1), dtype=np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
