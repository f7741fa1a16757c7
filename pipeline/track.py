"""Stage `track`: log the finished run in MLflow, also if DVC restored it from its cache."""

import math
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import stage
from rau.project import workspace
from rau.project.provenance import git_state

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rau.evaluation.diagnostics import Diagnostic
    from rau.evaluation.run_metrics import RunMetrics
    from rau.params import Params
    from rau.tracking import Data, Record

# Alias of the most recently logged model.
NEWEST = "newest"
STAGES = (
    "download",
    "tables",
    "encoder",
    "finetune",
    "features",
    "deterministic",
    "train",
    "evaluate",
    "report",
)


def final_metrics(metrics: "RunMetrics") -> dict[str, float]:
    """All metrics as `<protocol>.<category>.<metric>`; means have no category."""
    from rau.table_metadata import CUT_TEXTS

    cut = metrics.encoder.get(CUT_TEXTS, "0").split()[0].replace(",", "")
    values = metrics.main | {CUT_TEXTS: float(cut)}
    for protocol, categories in metrics.protocols.items():
        for category, row in categories.items():
            place = protocol if category == "mean" else f"{protocol}.{category}"
            values |= {f"{place}.{name}": value for name, value in row.items()}
    for protocol, methods in metrics.aspects.items():
        for aspect, value in methods[metrics.method].items():
            values[f"{protocol}.{aspect}.map_at_10"] = value
    for protocol, differences in metrics.against.items():
        for name, found in differences["mean"].items():
            values[f"{protocol}.{name}.over_deterministic"] = found.difference
    for protocol, one in metrics.composition.items():
        own = one.methods[metrics.method]
        values[f"{protocol}.{one.metric}.over_single_modality"] = own.gap.difference
        values[f"{protocol}.solved_by_one_modality"] = 100 * one.either
        if own.alone is not None:
            values[f"{protocol}.found_by_one_modality"] = 100 * own.alone
    return values


def note(metrics: "RunMetrics") -> str:
    """The run's description in Markdown: headline, comparison and diagnostics."""
    head = metrics.headline
    between = f" [{head.interval[0]:.2f}, {head.interval[1]:.2f}]" if head.interval else ""
    lines = [f"**{head.value:.2f}**{between} {head.metric}, protocol {head.protocol}"]
    gap = metrics.gain
    if gap is not None and gap.interval is not None:
        low, high = gap.interval
        clear = "clear of 0" if low > 0 or high < 0 else "0 lies in the interval"
        lines.append(
            f"{gap.difference:+.2f} [{low:+.2f}, {high:+.2f}] against the same head without "
            f"uncertainty: {clear}"
        )
    lines.append(f"{metrics.dataset}, {metrics.coverage}")
    lines += [f"**{one.name}**: {one.evidence}; {one.remedy}" for one in metrics.diagnostics]
    return "\n\n".join([*lines, "Report: `index.html`; ranked pictures: `figures/` (artifacts)"])


def diagnostic_tags(found: "list[Diagnostic]") -> dict[str, str]:
    """Tags with the names of all diagnostics, and the evidence and remedy of each."""
    tags = {"diagnostics": ", ".join(one.name for one in found) or "none"}
    return tags | {f"diagnostic.{one.name}": f"{one.evidence}; {one.remedy}" for one in found}


def timings() -> "dict[str, stage.Timing]":
    """The known timings of the stages that created the current outputs."""
    from importlib import import_module

    found = {
        name: stage.read_timing(name, import_module(f"pipeline.{name}").outputs())
        for name in STAGES
    }
    return {name: timing for name, timing in found.items() if timing is not None}


def time_and_memory(found: "Mapping[str, stage.Timing]") -> Iterator[tuple[str, float]]:
    """Yield the timings as metrics: seconds and peak memory in bytes."""
    for name, timing in found.items():
        yield f"time.{name}_seconds", timing.seconds
        yield f"memory.{name}_bytes", timing.peak_memory_bytes
        if timing.peak_device_bytes is not None:
            yield f"memory.{name}_device_bytes", timing.peak_device_bytes


def curves(
    prefix: str, history: "Mapping[str, NDArray[np.float64]]"
) -> Iterator[tuple[str, int, float]]:
    """Yield name, epoch and value for all values of a history that are not NaN."""
    for key, column in history.items():
        for epoch, value in zip(history["epoch"], column, strict=True):
            if key != "epoch" and not math.isnan(value):
                yield f"{prefix}{key}", int(epoch), float(value)


def data(dataset: str, queries: Path, trained: bool) -> "Data":
    """The data set of the metrics; `trained` tells whether a model was trained on it, too."""
    from rau.files import digest_file
    from rau.tracking import Data

    context = "train, val" if trained else "val"
    return Data(dataset, digest_file(queries)[:32], queries.parent.as_posix(), context)


def main() -> str | None:
    """Create or complete the MLflow run of the results in `reports/`."""
    from rau import tracking
    from rau.evaluation.run_metrics import RunMetrics
    from rau.report.run_page import text_table

    params = workspace.load_params()
    metrics = RunMetrics.read(workspace.METRICS)
    record = _record(params, metrics)
    root = workspace.main_checkout()
    uri = tracking.store_uri(root)
    print(text_table(metrics))
    print(metrics.coverage)
    try:
        run, (known,) = tracking.track(record, uri, root / "mlruns")
        line = f"MLflow run {run}" + (" (tracked before)" if known else "")
        if params.track.model and tracking.tag(uri, run, tracking.MODEL) is None:
            line += f"; {_log_search(params, uri, root / 'mlruns', run)}"
    except tracking.TrackingUnavailable as error:
        print(f"warning: {error}; run `python -m pipeline.track` later", file=sys.stderr)
        return None
    return line


def _record(params: "Params", metrics: "RunMetrics") -> "Record":
    """The complete record of the run."""
    from rau.files import digest, digest_files
    from rau.params import of_a_run
    from rau.tracking import Record
    from rau.training.history import read_history

    name = params.dataset.name
    history = {}
    if metrics.trained_here:
        history = read_history(workspace.model(name) / workspace.HISTORY)
    finetuning = workspace.finetuning_history(name) or {}
    values, short = of_a_run(params), {"theta": params.ua.theta, "n": float(params.ua.n)}
    how = f"{params.head.name} theta={params.ua.theta} n={params.ua.n}"
    if params.train.head is not None:
        short, how = {}, f"{metrics.method} of {params.train.head}"
    found = timings()
    measured = dict(time_and_memory(found))
    ends = [timing.ended for timing in found.values() if timing.ended is not None]
    head = workspace.model(name) / workspace.WEIGHTS
    results = [workspace.METRICS, workspace.rankings(name), head]
    experiment = os.environ.get("DVC_EXP_NAME", "")
    return Record(
        digest=digest([values, digest_files(results)], 32),
        name=experiment or f"{name} {how}",
        params=values | {"theta": params.ua.theta, "n": params.ua.n} if short else values,
        metrics=final_metrics(metrics) | short | measured,
        history=[*curves("epoch.", history), *curves("finetune_", finetuning)],
        tags=git_state()
        | diagnostic_tags(metrics.diagnostics)
        | {
            "method": metrics.method,
            "dvc_experiment": experiment or "workspace",
            "dataset": str(metrics.dataset),
            "trained_on": metrics.training.dataset or ("unknown" if metrics.head else "nothing"),
            "encoder": f"{metrics.encoder['encoder']} / {metrics.encoder['weights']}",
            "coverage": str(metrics.coverage),
            "cautions": "; ".join(metrics.cautions) or "none",
            "headline_protocol": metrics.headline.protocol,
            "mlflow.note.content": note(metrics),
        },
        artifacts={
            workspace.PAGE: "",
            workspace.METRICS: "",
            workspace.FIGURES: "figures",
            workspace.rankings(name): "rankings",
            workspace.model(name): "model",
        },
        seconds=sum(timing.seconds for timing in found.values()),
        ended=max(ends, default=None),
        data=data(name, workspace.table(name, "queries"), metrics.trained_here),
        model=(params.head.name, workspace.model(name)) if metrics.trained_here else None,
    )


def _log_search(params: "Params", uri: str, artifacts: Path, run: str) -> str:
    """Log a search over the val gallery as a model of the run, registered under the data set.

    Returns:
        Description of the logged model, for the stage's output.
    """
    from rau import devices
    from rau.project import galleries, named_models
    from rau.search import exported

    device, trust = devices.choose(params.train.device), params.encoder.trust_remote_code
    with (
        tempfile.TemporaryDirectory() as temporary,
        named_models.opened(".", device, trust) as model,
    ):
        folder = Path(temporary) / "index"
        gallery = galleries.index(folder, model)
        name = f"rau-{params.dataset.name}"
        logged = exported.log(folder, uri, artifacts, run, name, NEWEST, False, trust)
    return f"models:/{name}@{NEWEST}, version {logged.version}, val gallery {gallery}"


if __name__ == "__main__":
    stage.run(main)
