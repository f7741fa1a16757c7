"""Studies: `python -m pipeline.study methods`, or ablation, theta, n, or the tuning before them."""

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline import stage, workspace
from rau.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rau.params import Params
    from rau.studies.runs import Result

NAMES = ("tune", "methods", "ablation", "theta", "n")


def main(study: Annotated[str, typer.Argument(help=", ".join(NAMES))]) -> None:
    """Do the runs of a study that are not there yet, and write its tables."""
    if study not in NAMES:
        raise UserError(f"study {study}: choose from {', '.join(NAMES)}")
    if study == "tune":
        _tune()
    else:
        _study(study)


class Bench:
    """Does runs and hands back their results, from the store where it holds them."""

    def __init__(self, params: "Params", with_val: bool, title: str) -> None:
        from rau import devices
        from rau.studies import runs, workers

        name = params.dataset.name
        device = devices.choose(params.train.device)
        self.source = runs.Source(
            workspace.features(name, "images"),
            workspace.features(name, "texts"),
            workspace.table(name, "queries"),
            workspace.table(name, "galleries"),
            params.train.device,
        )
        self.device = device.type
        self.jobs = workers.jobs_for(params.study.jobs, device, stage.cores())
        self.with_val, self.title = with_val, title
        self.data, self.code = self.source.digest(), runs.code_digest()
        self.store = workspace.parts() / "runs"

    def key(self, params: "Params") -> str:
        """Name of a run in the store."""
        from rau.studies import runs

        return runs.key(params, self.data, self.code, self.device, self.with_val)

    def forecast(self, wanted: "Sequence[Params]") -> None:
        """Print how long the runs that are not there will take."""
        from rau.studies import workers

        by_key = {self.key(params): params for params in wanted}
        todo = list(workers.missing(by_key, self.store).values())
        if todo:
            seconds = workers.predict(self.source, todo, self.jobs, self.with_val)
            print(
                f"{self.title}: {len(by_key)} runs, {len(by_key) - len(todo)} there; about "
                f"{seconds / 60:.0f} minutes for the rest, {self.jobs} at once"
            )

    def complete(self, wanted: "Sequence[Params]") -> "list[Result]":
        """Results of all runs, in order."""
        from rau.studies import runs, workers

        keys = [self.key(params) for params in wanted]
        by_key = dict(zip(keys, wanted, strict=True))
        workers.complete(by_key, self.store, self.source, self.jobs, self.with_val, self.title)
        return [runs.load(workers.path(self.store, key)) for key in keys]


def _tune() -> None:
    """Write `data/studies/<dataset>/tuned.json` and `trials.csv`."""
    import pandas as pd

    from rau.files import write_json, write_text
    from rau.studies import plan, tuning

    params = workspace.load_params()
    sizes = plan.plan(params.study)
    bench = Bench(params, False, "tune")
    _announce(params)
    metric = f"holdout_{params.train.select}"

    def measure(wanted: "Sequence[Params]") -> list[float]:
        # A training that failed is the worst of all.
        values = [result.summary.get(metric) for result in bench.complete(wanted)]
        return [-math.inf if value is None else value for value in values]

    found = tuning.tune(plan.base(params, sizes), sizes, measure)
    rows = [
        {
            "method": trial.method,
            "chosen": trial.chosen,
            "seeds": len(trial.scores),
            "mean": round(sum(trial.scores) / len(trial.scores), 4),
            "first": round(trial.scores[0], 4),
            "changes": json.dumps(dict(trial.changes)),
        }
        for trial in found
    ]
    folder = workspace.studies(params.dataset.name) / "tune"
    write_text(folder / "trials.csv", pd.DataFrame(rows).to_csv(index=False))
    write_json(folder / "tuned.json", tuning.chosen(found))


def _announce(params: "Params") -> None:
    """Print how long the tuning and all studies together will take."""
    from rau.studies import plan, tuning, workers

    sizes = plan.plan(params.study)
    base = plan.base(params, sizes)
    bench = Bench(params, True, "all studies")
    wanted = {
        bench.key(variant.with_seed(seed)): variant.with_seed(seed)
        for study in plan.STUDIES
        for variant in plan.variants(study, base, sizes, {})
        for seed in range(sizes.seeds)
    }
    todo = [*tuning.configurations(base, sizes), *workers.missing(wanted, bench.store).values()]
    minutes = workers.predict(bench.source, todo, bench.jobs, True) / 60
    print(
        f"preset {params.study.preset}: {len(todo)} runs for tuning and all studies, about "
        f"{minutes:.0f} minutes, {bench.jobs} at once"
    )


def _study(study: Any) -> None:
    """Write `data/studies/<dataset>/<study>/`: runs.csv, summary.csv, study.json."""
    import pandas as pd

    from rau.files import read_json, write_json, write_text
    from rau.studies import plan, summary

    params = workspace.load_params()
    sizes = plan.plan(params.study)
    folder = workspace.studies(params.dataset.name)
    tuned = read_json(folder / "tune/tuned.json", "tuning") if study == "methods" else {}
    variants = plan.variants(study, plan.base(params, sizes), sizes, tuned)
    bench = Bench(params, True, study)
    seeds = range(sizes.seeds)
    wanted = [variant.with_seed(seed) for variant in variants for seed in seeds]
    bench.forecast(wanted)
    found = bench.complete(wanted)
    if failed := [r for r in found if r.failure is not None]:
        raise UserError(
            f"study {study}: {len(failed)} of {len(found)} runs failed, the first with seed "
            f"{failed[0].params['train.seed']}: {failed[0].failure}"
        )
    results = iter(found)
    by_variant = {variant.label: [next(results) for _ in seeds] for variant in variants}
    reference = plan.REFERENCE[study]
    rows = [
        summary.run_row(variant, seed, bench.key(variant.with_seed(seed)), result)
        for variant in variants
        for seed, result in enumerate(by_variant[variant.label])
    ]
    signatures = {
        variant.label: [
            summary.seed_signatures(variant, result, theirs)
            for result, theirs in zip(by_variant[variant.label], by_variant[reference], strict=True)
        ]
        for variant in variants
    }
    lines = summary.lines(by_variant, reference)
    write_text(folder / study / "runs.csv", pd.DataFrame(rows).to_csv(index=False))
    write_text(
        folder / study / "summary.csv", pd.DataFrame(summary.as_rows(lines)).to_csv(index=False)
    )
    write_json(
        folder / study / "study.json",
        {
            "study": study,
            "preset": params.study.preset,
            "seeds": sizes.seeds,
            "reference": reference,
            "variants": [
                {"label": v.label, "x": dict(v.x), "params": bench.key(v.params)} for v in variants
            ],
            "signatures": signatures,
            "cosines": summary.mean_cosines(by_variant),
        },
    )


def outputs() -> list[Path]:
    """What the stage wrote."""
    folder = workspace.studies(workspace.load_params().dataset.name)
    study = sys.argv[1]
    return [folder / "tune/tuned.json" if study == "tune" else folder / study / "summary.csv"]


if __name__ == "__main__":
    stage.run(main, outputs)
