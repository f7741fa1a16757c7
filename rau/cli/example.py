"""`rau example`: generate a shop's folder, to try a catalogue without your own data."""

from pathlib import Path
from typing import Annotated

import typer


def example(
    folder: Annotated[Path, typer.Argument(help="folder to write images and a products.csv to")],
) -> None:
    """Render garments and their product table; dataset.garments sets number, size and seed."""
    from rau import cpu
    from rau.datasets.garments import shop
    from rau.project import workspace

    params = workspace.params_or_defaults().dataset.garments
    count = shop.write(folder, params, cpu.cores())
    print(f"{folder}: {count:,} images and {shop.TABLE}")
