"""Studies: `python -m pipeline.study`, or `tune` and the names of studies."""

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline import stage, workspace
from rau.errors import UserError
from rau.studies.registry import STUDIES, USUAL

if TYPE_CHECKING:
    from rau.params import Params
    from rau.studies.run_store import RunStore

TUNE = "tune"
NAMES = (TUNE, *STUDIES)


def main(
    studies: Annotated[
        list[str] | None,
        typer.Argument(help=f"of {', '.join(NAMES)}; default: {TUNE}, {', '.join(USUAL)}"),
    ] = None,
) -> None:
    """Execute the runs of studies that are not stored yet, and write their tables."""
    for name in studies or ():
        if name not in NAMES:
            raise UserError(f"study {name}: choose from {', '.join(NAMES)}")
    from rau.files import read_json, write_json, write_text
    from rau.studies import registry
    from rau.studies import study as running

    params = workspace.load_params()
    folder = workspace.studies(params.dataset.name)
    tuned = folder / "tune/tuned.json"
    if not studies:
        running.announce(USUAL, params, store(params))
    for name in studies or (TUNE, *USUAL):
        if name == TUNE:
            trials, chosen = running.tune(params, store(params))
            write_text(folder / "tune/trials.csv", trials.to_csv(index=False))
            write_json(tuned, chosen)
        else:
            study = registry.load(name)
            changes = read_json(tuned, "tuning") if study.tuned else {}
            own = store(params, study.encoders)
            running.run_study(name, params, changes, own).write(folder / name)


def store(params: "Params", encoders: bool = False) -> "RunStore":
    """The runs that all studies share, with what they read."""
    from rau.studies.encoder_runs import EncoderSource
    from rau.studies.run_store import RunStore
    from rau.studies.runs import Source

    if params.train.head is not None:
        raise UserError("train.head: a study trains heads of its own; set it to null")
    name = params.dataset.name
    tables = {kind: workspace.table(name, kind) for kind in ("queries", "galleries")}
    source: Source | EncoderSource = Source(
        images=workspace.features(name, "images"),
        texts=workspace.features(name, "texts"),
        queries=tables["queries"],
        galleries=tables["galleries"],
        device=params.train.device,
        listed=workspace.table(name, "images"),
    )
    if encoders:
        source = EncoderSource(
            encoder=workspace.ENCODER,
            manifest=workspace.manifest(name),
            **tables,
            images=workspace.store(params.dataset),
            parts=workspace.parts(),
            device=params.train.device,
        )
    jobs = params.study.jobs
    return RunStore(workspace.parts() / "runs", source, jobs=jobs, cores=stage.cores())


if __name__ == "__main__":
    stage.run(main)
