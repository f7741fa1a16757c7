"""The same garments as a shop has them: images in a folder a category, and a product table."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from rau.datasets.garments.attributes import ATTRIBUTES
from rau.datasets.garments.generate import MARKER, Part, claim, draw_files, plan
from rau.errors import UserError
from rau.files import write_text
from rau.params import GarmentsParams

TABLE = "products.csv"


def write(root: Path, spec: GarmentsParams, workers: int = 2) -> int:
    """Write `<category>/<id>.jpg` and `products.csv` under `root`, and return how many there are.

    Raises:
        UserError: when `root` has a table that is not of drawn garments, or other garments.
    """
    if (root / TABLE).exists() and not (root / MARKER).exists():
        raise UserError(f"{root / TABLE} describes products of your own; name another folder")
    claim(root, spec)
    parts = plan(spec)
    draw_files(spec, parts, [root / part.category for part in parts], workers)
    write_table(root, parts)
    return sum(len(part.ids) for part in parts)


def write_table(root: Path, parts: Sequence[Part]) -> None:
    """Write `products.csv`, whose attributes are those of the garments."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(("image", "id", "category", *ATTRIBUTES))
    for part in parts:
        for name, garment in zip(part.ids, part.garments, strict=True):
            values = [garment.value(attribute) for attribute in ATTRIBUTES]
            writer.writerow((f"{part.category}/{name}.jpg", name, part.category, *values))
    write_text(root / TABLE, table.getvalue())
