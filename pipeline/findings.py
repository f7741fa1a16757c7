"""Findings: write the results of finished studies into the documentation."""

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline import stage
from pipeline.study import TUNED, connected, store
from rau.project import workspace
from rau.project.provenance import commit

if TYPE_CHECKING:
    from rau.params import Params
    from rau.studies.findings import Answer
    from rau.studies.workers import Workers


def main(
    setting: Annotated[
        str | None,
        typer.Option(help="data and features in words; else the data set, frozen or tuned"),
    ] = None,
) -> None:
    """Write docs/findings.md and one page per study from the tables of this project's studies.

    Results of other code, features or parameters are skipped, and their names are printed.
    """
    from rau.evaluation.run_metrics import RunMetrics
    from rau.features.table import read_features
    from rau.studies import findings

    params = workspace.load_params()
    name = params.dataset.name
    features = read_features(workspace.features(name, "texts"), "text").metadata
    regime = "frozen" if workspace.encoder(name) == workspace.ENCODER else "fine-tuned"
    title = setting or f"{name}, {regime}"
    folder = workspace.FINDINGS / findings.slug(title)
    about = {"encoder": f"{features['encoder']}, weights {features['weights']}", "commit": commit()}
    with connected(params) as workers:
        made = _of_studies(params, workers, title, folder, about)
    if workspace.METRICS.exists() and _is_current("evaluate"):
        run = findings.of_run(RunMetrics.read(workspace.METRICS))
        made += [] if run is None else [run]
    findings.Findings.of(folder, title).renewed(about, made).write(folder)
    page = workspace.FINDINGS.with_suffix(".md")
    findings.write_page(page, workspace.FINDINGS)
    print(f"{title}: {len(made)} answers in {page}")


def _of_studies(
    params: "Params", workers: "Workers", title: str, folder: Path, about: Mapping[str, str]
) -> "list[Answer]":
    """Write the pages of studies whose tables are current, and return their answers."""
    from rau.encoders.label import read_label
    from rau.errors import UserError
    from rau.files import write_bytes, write_text
    from rau.report.html import svg
    from rau.studies import findings, registry
    from rau.studies import study as running
    from rau.studies.tables import StudyTables

    own, made = workspace.studies(params.dataset.name), []
    # The inputs of runs are digested once, not for every study.
    store_of = cache(partial(store, params, workers))
    for name in workspace.finished_studies(params.dataset.name):
        study, tables = registry.load(name), StudyTables.read(own / name)
        runs = store_of(study.encoders)
        try:
            changes = running.tuned(own / TUNED, params, runs) if study.tuned else {}
        except UserError as error:
            print(f"{name}: left out, {error}")
            continue
        if not running.is_current(tables.document, params, changes, runs):
            print(f"{name}: left out, made by other code, features or parameters")
            continue
        picture = f"{name}.svg"
        write_bytes(folder / picture, svg(study.figure(tables)))
        said = dict(about)
        if study.encoders:
            said["encoder"] = f"{read_label(workspace.ENCODER).name}, trained along in every run"
        write_text(folder / f"{name}.md", findings.details(tables, title, said, picture))
        made.append(findings.of_study(tables))
    return made


def _is_current(name: str) -> bool:
    """Whether DVC considers a stage and its dependencies up to date; prints the reason if not."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            changed = repo.status(targets=[name], with_deps=True)
    except DvcException as error:
        print(f"{name}: left out, {error}")
        return False
    stale = [one for one, reasons in changed.items() if reasons != ["always changed"]]
    if stale:
        print(f"{name}: left out, made by other code, features or parameters: {', '.join(stale)}")
    return not stale


if __name__ == "__main__":
    stage.run(main)
