"""Studies: `python -m pipeline.study`, or `tune` and the names of studies."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline import stage
from rau import cpu
from rau.errors import UserError
from rau.project import workspace
from rau.studies.registry import STUDIES, USUAL

if TYPE_CHECKING:
    from rau.params import Params
    from rau.studies.run_store import RunStore
    from rau.studies.workers import Workers

TUNE = "tune"
TUNED, TRIALS = Path(TUNE, "tuned.json"), Path(TUNE, "trials.csv")
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
    params = workspace.load_params()
    with connected(params) as workers:
        if not studies:
            from rau.studies import study as running

            running.announce(USUAL, params, store(params, workers))
        for name in studies or (TUNE, *USUAL):
            _execute(name, params, workers)


def _execute(name: str, params: "Params", workers: "Workers") -> None:
    """Execute the tuning, or a study with the chosen parameters."""
    from rau.files import write_json, write_text
    from rau.studies import registry
    from rau.studies import study as running

    folder = workspace.studies(params.dataset.name)
    if name == TUNE:
        trials, choice = running.tune(params, store(params, workers))
        write_text(folder / TRIALS, trials.to_csv(index=False))
        write_json(folder / TUNED, choice.model_dump())
        return
    study = registry.load(name)
    own = store(params, workers, study.encoders)
    changes = running.tuned(folder / TUNED, params, own) if study.tuned else {}
    running.run_study(name, params, changes, own).write(folder / name)


@contextmanager
def connected(params: "Params") -> Iterator["Workers"]:
    """Yield the workers that execute runs: processes of this machine or of a cluster."""
    device, jobs = params.train.device, params.study.jobs
    if params.study.engine == "ray":
        from rau.studies.ray_workers import ray_workers

        with ray_workers(device, jobs) as workers:
            yield workers
    else:
        from rau.studies.local_workers import LocalWorkers

        yield LocalWorkers(device, jobs=jobs, cores=cpu.cores())


def store(params: "Params", workers: "Workers", encoders: bool = False) -> "RunStore":
    """The run store shared by all studies; its paths are absolute, so that all nodes find them."""
    from rau.studies.encoder_runs import EncoderSource
    from rau.studies.run_store import RunStore
    from rau.studies.runs import Source

    if params.train.head is not None:
        raise UserError("train.head: a study trains heads of its own; set it to null")
    if params.train.start != "fresh":
        raise UserError("train.start: heads of a study start fresh; set it to fresh")
    name, here = params.dataset.name, Path.cwd()
    queries, galleries = (here / workspace.table(name, kind) for kind in ("queries", "galleries"))
    source: Source | EncoderSource
    if encoders:
        source = EncoderSource(
            encoder=here / workspace.ENCODER,
            manifest=here / workspace.manifest(name),
            queries=queries,
            galleries=galleries,
            images=workspace.store(params.dataset),
            parts=workspace.parts(),
            device=workers.device,
        )
    else:
        source = Source(
            images=here / workspace.features(name, "images"),
            texts=here / workspace.features(name, "texts"),
            queries=queries,
            galleries=galleries,
            device=workers.device,
            listed=here / workspace.table(name, "images"),
        )
    return RunStore(workspace.parts() / "runs", source, workers)


if __name__ == "__main__":
    stage.run(main)
