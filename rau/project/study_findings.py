"""Results of the project's finished studies and of its run, written into the documentation."""

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.repo import Repo

from rau.encoders.label import read_label
from rau.errors import UserError
from rau.evaluation.run_metrics import RunMetrics
from rau.features.table import read_features
from rau.files import write_bytes, write_text
from rau.params import Params
from rau.project import study_runs, workspace
from rau.project.provenance import commit
from rau.report.html import svg
from rau.studies import findings, registry, study
from rau.studies.findings import Answer, Findings
from rau.studies.tables import StudyTables
from rau.studies.workers import Workers


def write(params: Params, setting: str | None = None) -> str:
    """Write `docs/findings.md` and one page per study from the tables of the project's studies.

    Results of other code, features or parameters are skipped, and their names are printed.

    Args:
        setting: data and features in words; default: the data set, and whether the encoder is
            frozen or fine-tuned.

    Returns:
        A line with the number of answers.
    """
    name = params.dataset.name
    features = read_features(workspace.features(name, "texts"), "text").metadata
    regime = "frozen" if workspace.encoder(name) == workspace.ENCODER else "fine-tuned"
    title = setting or f"{name}, {regime}"
    folder = workspace.FINDINGS / findings.slug(title)
    about = {"encoder": f"{features['encoder']}, weights {features['weights']}", "commit": commit()}
    with study_runs.connected(params) as workers:
        made = _of_studies(params, workers, title, folder, about)
    if workspace.METRICS.exists() and _is_current("evaluate"):
        run = findings.of_run(RunMetrics.read(workspace.METRICS))
        made += [] if run is None else [run]
    Findings.of(folder, title).renewed(about, made).write(folder)
    page = workspace.FINDINGS.with_suffix(".md")
    findings.write_page(page, workspace.FINDINGS)
    return f"{title}: {len(made)} answers in {page}"


def _of_studies(
    params: Params, workers: Workers, title: str, folder: Path, about: Mapping[str, str]
) -> list[Answer]:
    """Write the pages of studies whose tables are current, and return their answers."""
    made = []
    # The inputs of runs are digested once, not for every study.
    store_of = cache(partial(study_runs.store, params, workers))
    for name in workspace.finished_studies(params.dataset.name):
        own = registry.load(name)
        tables = StudyTables.read(workspace.studies(params.dataset.name) / name)
        runs, used = store_of(own.encoders), study_runs.used(params, own.encoders)
        try:
            changes = study_runs.changes(own, used, runs)
        except UserError as error:
            print(f"{name}: left out, {error}")
            continue
        if not study.is_current(tables.document, used, changes, runs):
            print(f"{name}: left out, made by other code, features or parameters")
            continue
        picture = f"{name}.svg"
        write_bytes(folder / picture, svg(own.figure(tables)))
        said = dict(about)
        if own.encoders:
            said["encoder"] = f"{read_label(workspace.ENCODER).name}, trained along in every run"
        write_text(folder / f"{name}.md", findings.details(tables, title, said, picture))
        made.append(findings.of_study(tables))
    return made


def _is_current(name: str) -> bool:
    """Whether DVC considers a stage and its dependencies up to date; prints the reason if not."""
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
