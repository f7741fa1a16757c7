"""Outlines of a garment: points as complex numbers, x to the right, y down, about one unit tall.

Complex points make every placement a product and a sum: `z * scale + shift`.
"""

import cmath
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rau.datasets.garments.attributes import Garment

Path = list[complex]
SHOULDER = 0.20 + 0.15j
ARMPIT_Y = 0.30
WAIST_Y = 0.45
TOP_Y = 0.08
# Half widths at these heights, by fit.
HEIGHTS = (ARMPIT_Y, WAIST_Y, 0.60, 0.95)
WIDTHS = {
    "top": {
        "tight": (0.160, 0.125, 0.155, 0.165),
        "regular": (0.185, 0.180, 0.190, 0.205),
        "loose": (0.220, 0.245, 0.275, 0.330),
    },
    "dress": {
        "tight": (0.155, 0.115, 0.160, 0.145),
        "regular": (0.180, 0.150, 0.215, 0.280),
        "loose": (0.210, 0.200, 0.320, 0.450),
    },
}
HEMS = {
    "top": {"short": 0.50, "medium": 0.62, "long": 0.76, "longest": 0.92},
    "dress": {"short": 0.58, "medium": 0.70, "long": 0.83, "longest": 0.95},
}
HEM_DIPS = {"dress": 0.030, "shirt": 0.060, "toptee": 0.010}
SLEEVES = {"none": 0.0, "short": 0.13, "elbow": 0.26, "long": 0.46}
CUFFS = {"tight": 0.055, "regular": 0.080, "loose": 0.125}
NECK_WIDTHS = {"round": 0.085, "v": 0.085, "square": 0.100, "collar": 0.075, "high": 0.070}
BOAT_WIDTH = 0.155


@dataclass(frozen=True)
class Shape:
    """Everything that painting needs; pairs are the right side and its mirror image."""

    body: Path
    hem: Path
    waist: Path
    neck: Path  # edge of the neckline, from right to left
    band: Path  # collar that stands above the shoulders, or empty
    flaps: list[Path]
    sleeves: list[Path]
    cuffs: list[Path]  # or the armholes of a sleeveless garment
    hem_y: float


def mirror(path: Sequence[complex]) -> Path:
    """The same path on the other side of the vertical axis."""
    return [-z.conjugate() for z in path]


def arc(width: float, y: float, depth: float) -> Path:
    """Half an ellipse that hangs from `y`, from right to left."""
    angles = np.linspace(0, math.pi, 13)
    return [complex(width * math.cos(a), y + depth * math.sin(a)) for a in angles]


def _side(garment: Garment, kind: str, hem_y: float) -> Path:
    heights = np.linspace(ARMPIT_Y, hem_y, 9)
    widths = np.interp(heights, HEIGHTS, WIDTHS[kind][garment.fit])
    # A moving average takes the corners off the profile.
    padded = np.concatenate([widths[:1], widths, widths[-1:]])
    smooth = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    smooth[[0, -1]] = widths[[0, -1]]
    return [complex(w, y) for w, y in zip(smooth, heights, strict=True)]


def _neck(neckline: str, point: complex) -> Path:
    if neckline == "v":
        return [point, 0.29j, -point.conjugate()]
    if neckline == "square":
        corner = complex(0.9 * point.real, 0.235)
        return [point, corner, -corner.conjugate(), -point.conjugate()]
    if neckline == "collar":
        return [point, 0.225j, -point.conjugate()]
    return arc(point.real, point.imag, {"round": 0.085, "boat": 0.040, "high": 0.015}[neckline])


def _sleeve(garment: Garment, armpit: complex, angle: float) -> tuple[Path, Path]:
    """Right sleeve and its cuff; a sleeveless garment has the armhole alone."""
    length = SLEEVES[garment.sleeve]
    if not length:
        return [], [SHOULDER, complex(armpit.real - 0.02, 0.23), armpit]
    along = cmath.rect(1, angle)
    taper = length / SLEEVES["long"]
    width = (1 - taper) * 0.15 + taper * CUFFS[garment.fit]
    outer = SHOULDER + length * along
    inner = outer + 1j * width * along
    rounded = SHOULDER + 0.02 * along - 0.012j * along
    return [SHOULDER - 0.03 + 0j, rounded, outer, inner, armpit], [outer, inner]


def shape(garment: Garment, angle: float) -> Shape:
    """Outlines of `garment`, its sleeves hanging at `angle` radians below the horizontal."""
    kind = "dress" if garment.category == "dress" else "top"
    hem_y = HEMS[kind][garment.length]
    side = _side(garment, kind, hem_y)
    hem = arc(side[-1].real, hem_y, HEM_DIPS[garment.category])
    neck_width = NECK_WIDTHS.get(garment.neckline, BOAT_WIDTH)
    point = complex(neck_width, 0.115 + 0.28 * (neck_width - 0.075))
    armhole = [SHOULDER, complex(side[0].real - 0.02, 0.23)]
    right = [point, *armhole, *side]
    sleeve, cuff = _sleeve(garment, side[0], angle)
    waist = complex(np.interp(WAIST_Y, [z.imag for z in side], [z.real for z in side]), WAIST_Y)
    flap = [point - 0.02j, point + 0.055 + 0.07j, 0.03 + 0.235j, 0.225j]
    return Shape(
        body=[*right, *hem, *reversed(mirror(right))],
        hem=hem,
        waist=[waist, *mirror([waist])],
        neck=_neck(garment.neckline, point),
        band=[0.075 + 0.135j, 0.068 + 0.035j, -0.068 + 0.035j, -0.075 + 0.135j]
        if garment.neckline == "high"
        else [],
        flaps=[flap, mirror(flap)] if garment.neckline == "collar" else [],
        sleeves=[sleeve, mirror(sleeve)] if sleeve else [],
        cuffs=[cuff, mirror(cuff)],
        hem_y=hem_y,
    )
