"""Studies: `python -m pipeline.study`, or `tune` and the names of studies."""

from typing import Annotated

import typer

from pipeline import stage
from rau.errors import UserError
from rau.project import workspace
from rau.studies.registry import STUDIES, TUNE, USUAL

NAMES = (TUNE, *STUDIES)


def main(
    studies: Annotated[
        list[str] | None,
        typer.Argument(help=f"of {', '.join(NAMES)}; default: {TUNE}, {', '.join(USUAL)}"),
    ] = None,
) -> None:
    """Execute the runs of studies that are not stored yet, and write the studies' tables."""
    for name in studies or ():
        if name not in NAMES:
            raise UserError(f"study {name}: choose from {', '.join(NAMES)}")
    from rau.project import study_runs

    study_runs.execute(studies or (), workspace.load_params())


if __name__ == "__main__":
    stage.run(main)
