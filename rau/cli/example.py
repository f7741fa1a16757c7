"""`rau example`: a folder as a shop has it, to try a catalogue without one's own."""

from pathlib import Path
from typing import Annotated

import typer


def example(
    folder: Annotated[Path, typer.Argument(help="to write, with pictures and a products.csv")],
) -> None:
    """Draw garments and their product table; dataset.garments has their number, size and seed."""
    from pipeline import stage, workspace
    from rau.datasets.garments import shop
    from rau.params import GarmentsParams

    here = workspace.PARAMS.is_file()
    params = workspace.load_params().dataset.garments if here else GarmentsParams()
    count = shop.write(folder, params, stage.cores())
    print(f"{folder}: {count:,} pictures and {shop.TABLE}")
