"""`rau triplets`: a page with the training queries of a catalogue."""

from pathlib import Path
from typing import Annotated

import typer


def triplets(
    folder: Annotated[
        Path | None,
        typer.Argument(help="folder with images and a products.csv; default: dataset.root"),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="the page's file")] = Path(
        "triplets.html"
    ),
    count: Annotated[int, typer.Option(min=1, max=100, help="queries to show of each kind")] = 10,
) -> None:
    """Preview queries of each kind that are generated from a catalogue, before training."""
    from rau.console import printable
    from rau.datasets.catalogue.reader import CatalogueReader
    from rau.errors import UserError
    from rau.files import write_text
    from rau.project import workspace
    from rau.report import triplets_page

    dataset = workspace.params_or_defaults().dataset
    if folder is None and dataset.name != "catalogue":
        raise UserError(
            "no catalogue is given; give its folder, or set dataset.name=catalogue and "
            f"dataset.root in {workspace.PARAMS}"
        )
    root = workspace.store(dataset) if folder is None else folder
    catalogue = CatalogueReader(dataset.catalogue).read(root)
    for note in catalogue.described:
        print(f"note: {printable(note)}")
    write_text(output, triplets_page.render(catalogue, root, count))
    for kind, queries in catalogue.kinds().items():
        print(f"{kind}: {len(queries):,} queries")
    print(f"page: {printable(str(output))}")
