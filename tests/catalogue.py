"""A small catalogue of drawn pictures and the table that describes them."""

import csv
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

COLOURS = ("red", "green", "blue", "black", "orange")
SHAPES = ("square", "circle", "bar")
EXTRAS = ("dot", "frame", "line")


def write_table(
    root: Path, rows: Sequence[Mapping[str, Any]], name: str = "products.csv", **how: Any
) -> None:
    """A CSV file; `encoding` and `delimiter` as given."""
    root.mkdir(parents=True, exist_ok=True)
    encoding = how.pop("encoding", "utf-8")
    with (root / name).open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(rows[0]), **how)
        writer.writeheader()
        writer.writerows(rows)


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Products with an attribute of every kind; some cells are empty."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        extras = rng.sample(EXTRAS, rng.randrange(1, 3))
        row = {
            "image": f"{SHAPES[number % 3]}/{number}.png",
            "id": f"P{number}",
            "category": ("toy", "sign")[number % 4 == 0],
            "colour": rng.choice(COLOURS),
            "shape": rng.choice(SHAPES),
            "price": round(rng.uniform(5, 50), 2),
            "waterproof": rng.choice(("yes", "no")),
            "extras": "|".join(extras),
        }
        if number % 11 == 5:
            row[rng.choice(("colour", "price", "waterproof", "extras"))] = ""
        found.append(row)
    return found


def draw(row: Mapping[str, Any], path: Path) -> None:
    """A picture of 24 pixels a side that shows colour, shape and extras."""
    picture = Image.new("RGB", (24, 24), "white")
    pen = ImageDraw.Draw(picture)
    fill = row["colour"] or "grey"
    if row["shape"] == "circle":
        pen.ellipse((4, 4, 20, 20), fill)
    else:
        pen.rectangle((4, 4, 20, 20) if row["shape"] == "square" else (8, 2, 16, 22), fill)
    if "dot" in row["extras"]:
        pen.point((12, 12), "yellow")
    if "frame" in row["extras"]:
        pen.rectangle((0, 0, 23, 23), outline="purple")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def write(root: Path, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Table and pictures; the rows are returned."""
    found = rows(count, seed)
    write_table(root, found)
    for row in found:
        draw(row, root / row["image"])
    return found
