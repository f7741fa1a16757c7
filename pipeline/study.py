"""Studies: `python -m pipeline.study`, or one of tune, methods, ablation, theta, n and finetune."""

from typing import TYPE_CHECKING, Annotated, cast

import typer

from pipeline import stage, workspace
from rau.errors import UserError

if TYPE_CHECKING:
    from rau.params import Params
    from rau.studies.plan import Study
    from rau.studies.run_store import RunStore

OF_HEADS = ("tune", "methods", "ablation", "theta", "n")
NAMES = (*OF_HEADS, "finetune")


def main(
    study: Annotated[
        str | None, typer.Argument(help=f"{', '.join(NAMES)}; default: all but finetune")
    ] = None,
) -> None:
    """Execute the runs of a study that are not stored yet, and write its tables."""
    if study not in (None, *NAMES):
        raise UserError(f"study {study}: choose from {', '.join(NAMES)}")
    from rau.files import read_json, write_json, write_text
    from rau.studies import study as studies

    params = workspace.load_params()
    folder = workspace.studies(params.dataset.name)
    store = _store(params, study == "finetune")
    tuned = folder / "tune/tuned.json"
    if study is None:
        studies.announce(params, store)
    for name in [study] if study else OF_HEADS:
        if name == "tune":
            trials, chosen = studies.tune(params, store)
            write_text(folder / "tune/trials.csv", trials.to_csv(index=False))
            write_json(tuned, chosen)
        else:
            changes = read_json(tuned, "tuning") if name == "methods" else {}
            tables = studies.run_study(cast("Study", name), params, changes, store)
            tables.write(folder / name)


def _store(params: "Params", encoders: bool) -> "RunStore":
    """The runs that all studies share, with what they read."""
    from rau.studies.encoder_runs import EncoderSource
    from rau.studies.run_store import RunStore
    from rau.studies.runs import Source

    name = params.dataset.name
    tables = {kind: workspace.table(name, kind) for kind in ("queries", "galleries")}
    source: Source | EncoderSource = Source(
        images=workspace.features(name, "images"),
        texts=workspace.features(name, "texts"),
        **tables,
        device=params.train.device,
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
