"""Findings: write the results of finished studies into the documentation."""

from typing import Annotated

import typer

from pipeline import stage
from rau.project import workspace


def main(
    setting: Annotated[
        str | None,
        typer.Option(help="data and features in words; else the data set, frozen or tuned"),
    ] = None,
) -> None:
    """Write docs/findings.md and one page per study from the tables of this project's studies.

    Results of other code, features or parameters are skipped, and their names are printed.
    """
    from rau.project import study_findings

    print(study_findings.write(workspace.load_params(), setting))


if __name__ == "__main__":
    stage.run(main)
