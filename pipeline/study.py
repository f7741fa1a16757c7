"""Studies: `python -m pipeline.study`, or one of tune, methods, ablation, theta and n."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from pipeline import stage, workspace
from rau.errors import UserError

if TYPE_CHECKING:
    from rau.params import Params
    from rau.studies.plan import Study
    from rau.studies.run_store import RunStore

NAMES = ("tune", "methods", "ablation", "theta", "n")


def main(
    study: Annotated[str | None, typer.Argument(help=f"{', '.join(NAMES)}; default: all")] = None,
) -> None:
    """Execute the runs of a study that are not stored yet, and write its tables."""
    if study not in (None, *NAMES):
        raise UserError(f"study {study}: choose from {', '.join(NAMES)}")
    params = workspace.load_params()
    folder = workspace.studies(params.dataset.name)
    for name in [study] if study else NAMES:
        if name == "tune":
            _tune(params, folder)
        else:
            _study(cast("Study", name), params, folder)


def _store(params: "Params", with_val: bool, title: str) -> "RunStore":
    """The runs that all studies share, with what they read."""
    from rau.studies.run_store import RunStore
    from rau.studies.runs import Source

    name = params.dataset.name
    source = Source(
        workspace.features(name, "images"),
        workspace.features(name, "texts"),
        workspace.table(name, "queries"),
        workspace.table(name, "galleries"),
        params.train.device,
    )
    return RunStore(
        workspace.parts() / "runs",
        source,
        jobs=params.study.jobs,
        cores=stage.cores(),
        with_val=with_val,
        title=title,
    )


def _tune(params: "Params", folder: Path) -> None:
    """Write `tune/tuned.json` and `tune/trials.csv`."""
    from rau.files import write_json, write_text
    from rau.studies import study

    study.announce(params, _store(params, True, "all studies"))
    trials, chosen = study.tune(params, _store(params, False, "tune"))
    write_text(folder / "tune/trials.csv", trials.to_csv(index=False))
    write_json(folder / "tune/tuned.json", chosen)


def _study(name: "Study", params: "Params", folder: Path) -> None:
    """Write `<study>/runs.csv`, `summary.csv` and `study.json`."""
    from rau.studies import study, tuning

    path = folder / "tune/tuned.json"
    tuned = tuning.read_chosen(path, params) if name == "methods" else {}
    study.run_study(name, params, tuned, _store(params, True, name)).write(folder / name)


if __name__ == "__main__":
    stage.run(main)
