"""`rau submission`: check a file before it is sent to the server of CIRR or CIRCO."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def submission(
    files: Annotated[list[Path], typer.Argument(help="the files to send, made by any method")],
    dataset: Annotated[
        Literal["cirr", "circo"] | None, typer.Option(help="default: dataset.name of params.yaml")
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="folder of annotations; default: those of this project"),
    ] = None,
) -> None:
    """Check that the server of CIRR's test1 or CIRCO's test would accept FILES."""
    from rau.console import printable
    from rau.datasets.readers import reader
    from rau.errors import UserError
    from rau.evaluation import submissions
    from rau.evaluation.hidden_split import HiddenSplit
    from rau.params import DatasetParams
    from rau.project import workspace

    own = workspace.params_or_defaults().dataset
    name = dataset or own.name
    if name not in submissions.FORMATS:
        raise UserError(f"no server evaluates a split of {name}; add --dataset cirr or circo")
    if root is None:
        root = workspace.store(own if own.name == name else DatasetParams(name=name))
    form, found = submissions.FORMATS[name], reader(name).read_annotations(root)
    galleries = found.gallery_table().to_pylist()
    hidden = HiddenSplit.of(form.SPLIT, form.GALLERY, found.queries, galleries)
    if hidden is None:
        raise UserError(f"this copy has no queries of {form.SPLIT}; add its annotations")
    for path in files:
        submissions.check_file(path, hidden, form)
        print(printable(f"{path}: complete, {len(hidden.queries):,} queries of {hidden.split}"))
