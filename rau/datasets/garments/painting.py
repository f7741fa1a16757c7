"""Cloth: colour, pattern, seams, trim and details of a garment, painted with a pen."""

import cmath
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from rau.datasets.garments.attributes import PAINTS, Garment
from rau.datasets.garments.shapes import Shape, mirror

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


def tint(colour: Rgb, factor: float | Sequence[float]) -> Rgb:
    """A darker (`factor` < 1) or lighter colour; one factor, or one per channel."""
    factors = [factor] * 3 if isinstance(factor, float) else factor
    red, green, blue = (min(255, round(c * f)) for c, f in zip(colour, factors, strict=True))
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
    at = np.arange(-EXTENT - phase * step, 1.1, step)
    if upright:
        bands = [[complex(x, -0.05), complex(x, 1.1)] for x in at[at <= EXTENT]]
    else:
        bands = [[complex(-EXTENT, y), complex(EXTENT, y)] for y in at[at >= -0.05]]
    for band in bands:
        pen.line(band, ink, width)


def _pattern(pen: Pen, name: str, cloth: Rgb, accent: Rgb, phase: float) -> None:
    match name:
        case "stripes":
            _bands(pen, accent, 0.10, 0.045, phase, upright=False)
        case "pinstripes":
            _bands(pen, accent, 0.075, 0.026, phase, upright=True)
        case "dots":
            for centre in _grid(0.11, phase):
                pen.dot(centre, 0.029, accent)
        case "checks":
            half = blend(cloth, accent)
            _bands(pen, half, 0.12, 0.06, phase, upright=False)
            _bands(pen, half, 0.12, 0.06, phase, upright=True)
            at = np.arange(-EXTENT - phase * 0.12, 1.1, 0.12)
            for y in at[at > -0.05]:
                for x in at[at < EXTENT]:
                    corners = (-1 - 1j, 1 - 1j, 1 + 1j, -1 + 1j)
                    pen.fill([complex(x, y) + 0.03 * z for z in corners], accent)
        case "floral":
            for i, centre in enumerate(_grid(0.155, phase)):
                for petal in range(5):
                    angle = 0.7 * i + phase + 0.4 * math.pi * petal
                    pen.dot(centre + cmath.rect(0.034, angle), 0.026, accent)
                pen.dot(centre, 0.018, tint(accent, 0.5))
        case "graphic":
            radii = (0.07, 0.03)
            star = [cmath.rect(radii[i % 2], math.pi * (i / 5 - 0.5)) for i in range(10)]
            pen.dot(0.365j, 0.088, accent)
            pen.fill([0.365j + z for z in star], cloth)


def ruffles(shape: Shape) -> list[complex]:
    """Centres of the discs that make a ruffled hem."""
    count = max(4, round(2 * shape.hem[0].real / 0.06))
    at = np.linspace(0, len(shape.hem) - 1, count + 1)
    return [complex(z) for z in np.interp(at, np.arange(len(shape.hem)), shape.hem)]


def _detail(pen: Pen, name: str, shape: Shape, accent: Rgb, dark: Rgb) -> None:
    match name:
        case "belt":
            pen.line([z - 0.028j for z in shape.waist], dark, 0.010)
            pen.line(shape.waist, accent, 0.050)
            pen.line([z + 0.028j for z in shape.waist], dark, 0.010)
            pen.fill([0.03 + 0.42j, 0.03 + 0.48j, -0.03 + 0.48j, -0.03 + 0.42j], dark)
            pen.fill([0.017 + 0.433j, 0.017 + 0.467j, -0.017 + 0.467j, -0.017 + 0.433j], accent)
        case "buttons":
            for x in (0.033, -0.033):
                pen.line([complex(x, 0.29), complex(x, shape.hem_y)], dark, 0.010)
            for y in np.arange(0.32, shape.hem_y - 0.02, 0.075):
                pen.dot(complex(0, y), 0.026, dark)
                pen.dot(complex(0, y), 0.019, accent)
        case "pocket":
            corners = [0.025 + 0.29j, 0.135 + 0.29j, 0.135 + 0.39j, 0.08 + 0.42j, 0.025 + 0.39j]
            pen.fill(corners, accent)
            pen.line([*corners, corners[0]], dark, 0.014)
            pen.line([0.025 + 0.312j, 0.135 + 0.312j], dark, 0.010)
        case "bow":
            knot = 0.265j
            right = [[0, 0.10 - 0.052j, 0.10 + 0.052j], [0, 0.03 + 0.115j, 0.065 + 0.10j]]
            for path in (*right, *map(mirror, right)):
                loop = [knot + z for z in path]
                pen.fill(loop, accent)
                pen.line([*loop, loop[0]], dark, 0.009)
            pen.dot(knot, 0.024, dark)
            pen.dot(knot, 0.017, accent)
        case "ruffles":
            for centre in ruffles(shape):
                pen.dot(centre, 0.042, dark)
                pen.dot(centre, 0.034, accent)


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
    """Paint the garment, also outside its silhouette.

    Args:
        pen: of an RGB canvas filled with the cloth's colour.
        garment: what to paint.
        shape: its outlines.
        hue: factors of red, green and blue, as `tint` applied to the canvas.
        phase: where patterns begin, 0 to 1.
    """
    base, accent = (tint(PAINTS[name].rgb, hue) for name in (garment.colour, garment.accent))
    dark = tint(base, 0.55) if sum(base) > 150 else tint(base, 2.2)
    _pattern(pen, garment.pattern, base, accent, phase)
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
    _detail(pen, garment.detail, shape, accent, dark)
