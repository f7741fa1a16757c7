"""`rau example`: a folder as a shop has it, to try a catalogue without one's own."""

from pathlib import Path
from typing import Annotated

import typer


def example(
    folder: Annotated[Path, typer.Argument(help="to write, with pictures and a products.csv")],
) -> None:
    """Draw garments and their product table; dataset.garments has their number, size and seed."""
    from rau import cpu
    from rau.datasets.garments import shop
    from rau.project import workspace

    params = workspace.params_or_defaults().dataset.garments
    count = shop.write(folder, params, cpu.cores())
    print(f"{folder}: {count:,} pictures and {shop.TABLE}")
