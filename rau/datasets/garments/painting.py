"""Cloth: colour, pattern, seams, trim and details of a garment, painted with a pen."""

import cmath
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from rau.datasets.garments.attributes import PAINTS, Garment
from rau.datasets.garments.shapes import Path, Shape

Rgb = tuple[int, int, int]
Ink = Rgb | int
EXTENT = 0.52  # half the width that patterns must fill
TRIM = 0.022


@dataclass(frozen=True)
class Frame:
    """The similarity that takes garment coordinates to pixels of the canvas."""

    scale: complex
    shift: complex


class Pen:
    """Draws in garment coordinates on a canvas of any mode."""

    def __init__(self, canvas: Image.Image, frame: Frame) -> None:
        self._draw = ImageDraw.Draw(canvas)
        self._frame = frame

    def _pixels(self, path: Sequence[complex]) -> list[tuple[float, float]]:
        scale, shift = self._frame.scale, self._frame.shift
        return [((p := z * scale + shift).real, p.imag) for z in path]

    def fill(self, path: Sequence[complex], ink: Ink) -> None:
        """Fill a closed path."""
        self._draw.polygon(self._pixels(path), fill=ink)

    def line(self, path: Sequence[complex], ink: Ink, width: float) -> None:
        """Draw an open path of a width in garment units."""
        pixels = max(1, round(width * abs(self._frame.scale)))
        self._draw.line(self._pixels(path), fill=ink, width=pixels)

    def dot(self, centre: complex, radius: float, ink: Ink) -> None:
        """Draw a disc."""
        (x, y), r = self._pixels([centre])[0], radius * abs(self._frame.scale)
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=ink)


def tint(colour: Rgb, factor: float) -> Rgb:
    """A darker (`factor` < 1) or lighter colour."""
    red, green, blue = (min(255, max(0, round(c * factor))) for c in colour)
    return red, green, blue


def blend(one: Rgb, other: Rgb) -> Rgb:
    """The colour half-way."""
    red, green, blue = ((a + b) // 2 for a, b in zip(one, other, strict=True))
    return red, green, blue


def _grid(step: float, phase: float) -> list[complex]:
    """Staggered points over the whole garment."""
    rows = np.arange(-phase * step, 1.1, step)
    return [
        complex(x, y)
        for i, y in enumerate(rows)
        for x in np.arange(-EXTENT + (i % 2) * step / 2, EXTENT, step)
    ]


def _bands(pen: Pen, ink: Ink, step: float, width: float, phase: float, upright: bool) -> None:
    for at in np.arange(-EXTENT - phase * step, 1.1, step):
        band = [complex(-EXTENT, at), complex(EXTENT, at)]
        if upright:
            if at > EXTENT:
                break
            band = [complex(at, -0.05), complex(at, 1.1)]
        elif at < -0.05:
            continue
        pen.line(band, ink, width)


def _stripes(pen: Pen, cloth: Rgb, accent: Rgb, phase: float) -> None:
    _bands(pen, accent, 0.10, 0.045, phase, upright=False)


def _pinstripes(pen: Pen, cloth: Rgb, accent: Rgb, phase: float) -> None:
    _bands(pen, accent, 0.075, 0.026, phase, upright=True)


def _dots(pen: Pen, cloth: Rgb, accent: Rgb, phase: float) -> None:
    for centre in _grid(0.11, phase):
        pen.dot(centre, 0.029, accent)


def _checks(pen: Pen, cloth: Rgb, accent: Rgb, phase: float) -> None:
    half = blend(cloth, accent)
    _bands(pen, half, 0.12, 0.06, phase, upright=False)
    _bands(pen, half, 0.12, 0.06, phase, upright=True)
    rows = np.arange(-EXTENT - phase * 0.12, 1.1, 0.12)
    for y in rows[rows > -0.05]:
        for x in rows[rows < EXTENT]:
            at = complex(x, y)
            pen.fill([at + 0.03 * z for z in (-1 - 1j, 1 - 1j, 1 + 1j, -1 + 1j)], accent)


def _floral(pen: Pen, cloth: Rgb, accent: Rgb, phase: float) -> None:
    heart = tint(accent, 0.5)
    for i, centre in enumerate(_grid(0.155, phase)):
        for petal in range(5):
            pen.dot(
                centre + cmath.rect(0.034, 0.7 * i + phase + 0.4 * math.pi * petal), 0.026, accent
            )
        pen.dot(centre, 0.018, heart)


def _graphic(pen: Pen, cloth: Rgb, accent: Rgb, phase: float) -> None:
    centre = 0.365j
    pen.dot(centre, 0.088, accent)
    star = [centre + cmath.rect((0.07, 0.03)[i % 2], math.pi * (i / 5 - 0.5)) for i in range(10)]
    pen.fill(star, cloth)


PATTERNS: Mapping[str, Callable[[Pen, Rgb, Rgb, float], None]] = {
    "plain": lambda pen, cloth, accent, phase: None,
    "stripes": _stripes,
    "pinstripes": _pinstripes,
    "dots": _dots,
    "checks": _checks,
    "floral": _floral,
    "graphic": _graphic,
}


def _belt(pen: Pen, shape: Shape, accent: Rgb, dark: Rgb) -> None:
    pen.line([z - 0.028j for z in shape.waist], dark, 0.010)
    pen.line(shape.waist, accent, 0.050)
    pen.line([z + 0.028j for z in shape.waist], dark, 0.010)
    pen.fill([0.03 + 0.42j, 0.03 + 0.48j, -0.03 + 0.48j, -0.03 + 0.42j], dark)
    pen.fill([0.017 + 0.433j, 0.017 + 0.467j, -0.017 + 0.467j, -0.017 + 0.433j], accent)


def _buttons(pen: Pen, shape: Shape, accent: Rgb, dark: Rgb) -> None:
    pen.line([complex(0.033, 0.29), complex(0.033, shape.hem_y)], dark, 0.010)
    pen.line([complex(-0.033, 0.29), complex(-0.033, shape.hem_y)], dark, 0.010)
    for y in np.arange(0.32, shape.hem_y - 0.02, 0.075):
        pen.dot(complex(0, y), 0.026, dark)
        pen.dot(complex(0, y), 0.019, accent)


def _pocket(pen: Pen, shape: Shape, accent: Rgb, dark: Rgb) -> None:
    corners: Path = [0.025 + 0.29j, 0.135 + 0.29j, 0.135 + 0.39j, 0.08 + 0.42j, 0.025 + 0.39j]
    pen.fill(corners, accent)
    pen.line([*corners, corners[0]], dark, 0.014)
    pen.line([0.025 + 0.312j, 0.135 + 0.312j], dark, 0.010)


def _bow(pen: Pen, shape: Shape, accent: Rgb, dark: Rgb) -> None:
    knot = 0.265j
    for side in (1, -1):
        for tail in ([0, 0.10 - 0.052j, 0.10 + 0.052j], [0, 0.03 + 0.115j, 0.065 + 0.10j]):
            loop = [knot + complex(side * complex(z).real, complex(z).imag) for z in tail]
            pen.fill(loop, accent)
            pen.line([*loop, loop[0]], dark, 0.009)
    pen.dot(knot, 0.024, dark)
    pen.dot(knot, 0.017, accent)


def ruffles(shape: Shape) -> list[complex]:
    """Centres of the discs that make a ruffled hem."""
    count = max(4, round(2 * shape.hem[0].real / 0.06))
    at = np.linspace(0, len(shape.hem) - 1, count + 1)
    return [complex(z) for z in np.interp(at, np.arange(len(shape.hem)), shape.hem)]


def _ruffles(pen: Pen, shape: Shape, accent: Rgb, dark: Rgb) -> None:
    for centre in ruffles(shape):
        pen.dot(centre, 0.042, dark)
        pen.dot(centre, 0.034, accent)


DETAILS: Mapping[str, Callable[[Pen, Shape, Rgb, Rgb], None]] = {
    "none": lambda pen, shape, accent, dark: None,
    "belt": _belt,
    "buttons": _buttons,
    "pocket": _pocket,
    "bow": _bow,
    "ruffles": _ruffles,
}


def silhouette(pen: Pen, garment: Garment, shape: Shape) -> None:
    """Fill with 255 what the garment covers."""
    for part in (shape.body, shape.band, *shape.sleeves, *shape.flaps):
        if part:
            pen.fill(part, 255)
    for path in (shape.hem, *shape.cuffs):
        pen.line(path, 255, TRIM)
    if garment.detail == "ruffles":
        for centre in ruffles(shape):
            pen.dot(centre, 0.042, 255)


def cloth(pen: Pen, garment: Garment, shape: Shape, hue: Sequence[float], phase: float) -> None:
    """Paint the garment; the canvas outside its silhouette is painted over too.

    Args:
        pen: of an RGB canvas that is filled with the cloth's colour already.
        garment: what to paint.
        shape: its outlines.
        hue: factors of red, green and blue, as `tinted` applied to the canvas.
        phase: where patterns begin, 0 to 1.
    """
    base, accent = tinted(garment.colour, hue), tinted(garment.accent, hue)
    dark = tint(base, 0.55) if sum(base) > 150 else tint(base, 2.2)
    PATTERNS[garment.pattern](pen, base, accent, phase)
    for sleeve in shape.sleeves:
        pen.line([sleeve[0], sleeve[-1]], dark, 0.010)
        pen.line(sleeve[1:], dark, 0.008)
    pen.line([*shape.body, shape.body[0]], dark, 0.008)
    if garment.category == "dress":
        pen.line(shape.waist, dark, 0.008)
    pen.line(shape.hem, accent, 1.4 * TRIM)
    for cuff in shape.cuffs:
        pen.line(cuff, accent, 1.3 * TRIM)
    if shape.band:
        pen.fill(shape.band, base)
        pen.line([shape.band[0], shape.band[-1]], dark, 0.010)
        pen.line(shape.band[1:3], accent, 1.6 * TRIM)
    else:
        pen.fill(shape.neck, tint(base, 0.45))
        pen.line(shape.neck, accent, TRIM)
    for flap in shape.flaps:
        pen.fill(flap, accent)
        pen.line([*flap, flap[0]], dark, 0.010)
    DETAILS[garment.detail](pen, shape, accent, dark)


def tinted(name: str, hue: Sequence[float]) -> Rgb:
    """A named colour under the light of one picture."""
    red, green, blue = (min(255, round(c * f)) for c, f in zip(PAINTS[name].rgb, hue, strict=True))
    return red, green, blue
