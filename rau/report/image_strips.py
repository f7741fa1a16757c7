"""Image strips: the reference and its caption, then the ranked images, the target framed."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from rau.errors import UserError
from rau.pictures import as_rgb

TILE = 112
GAP = 6
COLUMNS = 5
LINE = 15
MOST_LINES = 30
INK, PAPER, TARGET, RELEVANT = "#1a1a1a", "#ffffff", "#0a9d4b", "#1f5fa8"
GONE = "#d0d0d0"


@dataclass(frozen=True)
class Strip:
    """The content of a strip: files, bytes or images in rank order, and optionally a reference."""

    reference: Path | bytes | Image.Image | None
    caption: str
    ranked: Sequence[Path | bytes | Image.Image]
    target_at: int | None = None
    relevant_at: frozenset[int] = frozenset()


def thumbnail(source: Path | bytes | Image.Image) -> Image.Image:
    """An image scaled to fit a tile; grey if it cannot be read."""
    inner = TILE - 8
    try:
        return ImageOps.contain(as_rgb(source), (inner, inner))
    except UserError:
        # It was intact at `download`; a damaged image must not prevent the report.
        image = Image.new("RGB", (inner, inner), GONE)
        ImageDraw.Draw(image).text((8, inner // 2 - 8), "unreadable", INK)
        return image


def _tile(source: Path | bytes | Image.Image, frame: str | None) -> Image.Image:
    tile = Image.new("RGB", (TILE, TILE), frame or PAPER)
    inner = TILE - 8
    backing = Image.new("RGB", (inner, inner), PAPER)
    image = thumbnail(source)
    backing.paste(image, ((inner - image.width) // 2, (inner - image.height) // 2))
    tile.paste(backing, (4, 4))
    return tile


def draw(strip: Strip) -> Image.Image:
    """Draw a strip: the reference with its caption on the left, ranked images in rows of five.

    The target has a green frame; other correct answers, if known, a blue one.
    """
    rows = max(1, -(-len(strip.ranked) // COLUMNS))
    # Of a caption without end the image would be too high for its format.
    lines = textwrap.wrap(strip.caption, 26, max_lines=MOST_LINES, placeholder=" …") or [""]
    left = 2 * TILE
    height = max(rows * (TILE + LINE + GAP), TILE + GAP + LINE * (len(lines) + 1)) + GAP
    canvas = Image.new("RGB", (left + COLUMNS * (TILE + GAP) + GAP, height), PAPER)
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(13)
    if strip.reference is not None:
        canvas.paste(_tile(strip.reference, None), (GAP, GAP))
    for number, line in enumerate(lines):
        pen.text((GAP + 4, TILE + 2 * GAP + number * LINE), line, INK, font)
    for index, source in enumerate(strip.ranked):
        x = left + (index % COLUMNS) * (TILE + GAP)
        y = GAP + (index // COLUMNS) * (TILE + LINE + GAP)
        hit = RELEVANT if index in strip.relevant_at else None
        frame = TARGET if index == strip.target_at else hit
        canvas.paste(_tile(source, frame), (x, y))
        pen.text((x + 4, y + TILE), str(index + 1), frame or INK, font)
    return canvas
