"""What MLflow shows of the project's current run: metrics by name, curves, tags, a note, files."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rau.evaluation.diagnostics import Diagnostic
from rau.evaluation.run_metrics import RunMetrics
from rau.files import digest, digest_file, digest_files
from rau.methods import METHODS
from rau.params import Params, of_a_run
from rau.project import workspace
from rau.project.provenance import git_state
from rau.project.timings import Timing
from rau.table_metadata import CUT_TEXTS
from rau.tracking import Data, Record
from rau.training.history import read_history


def record(params: Params, metrics: RunMetrics, timings: Mapping[str, Timing]) -> Record:
    """The record of the run whose results are in the working folder.

    Args:
        metrics: content of `reports/metrics.json`.
        timings: the known timings of its stages, by name.
    """
    name = params.dataset.name
    model, rankings = workspace.model(name), workspace.rankings(name)
    values = of_a_run(params)
    short = METHODS[params.head.name].theta_and_n(params.ua)
    how = " ".join([params.head.name, *(f"{key}={value}" for key, value in short.items())])
    if params.train.head is not None:
        short, how = {}, f"{metrics.method} of {params.train.head}"
    results = digest_files([workspace.METRICS, rankings, model / workspace.WEIGHTS])
    experiment = os.environ.get("DVC_EXP_NAME", "")
    ends = [timing.ended for timing in timings.values() if timing.ended is not None]
    return Record(
        digest=digest([values, results], 32),
        name=experiment or f"{name} {how}",
        params=values | short,
        metrics=final_metrics(metrics) | short | dict(time_and_memory(timings)),
        history=histories(name, metrics.trained_here),
        tags=git_state() | {"dvc_experiment": experiment or "workspace"} | tags(metrics),
        artifacts={
            workspace.PAGE: "",
            workspace.METRICS: "",
            workspace.FIGURES: "figures",
            rankings: "rankings",
            model: "model",
        },
        seconds=sum(timing.seconds for timing in timings.values()),
        ended=max(ends, default=None),
        data=data(name, metrics.trained_here),
        model=(params.head.name, model) if metrics.trained_here else None,
    )


def final_metrics(metrics: RunMetrics) -> dict[str, float]:
    """All metrics as `<protocol>.<category>.<metric>`; means have no category."""
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
    for protocol, composed in metrics.composition.items():
        one = composed["mean"]
        own = one.methods[metrics.method]
        values[f"{protocol}.{one.metric}.over_single_modality"] = own.gap.difference
        values[f"{protocol}.solved_by_one_modality"] = 100 * one.either
        if own.alone is not None:
            values[f"{protocol}.found_by_one_modality"] = 100 * own.alone
    return values


def time_and_memory(timings: Mapping[str, Timing]) -> Iterator[tuple[str, float]]:
    """Yield the timings as metrics: seconds and peak memory in bytes."""
    for name, timing in timings.items():
        yield f"time.{name}_seconds", timing.seconds
        yield f"memory.{name}_bytes", timing.peak_memory_bytes
        if timing.peak_device_bytes is not None:
            yield f"memory.{name}_device_bytes", timing.peak_device_bytes


def histories(dataset: str, trained: bool) -> list[tuple[str, int, float]]:
    """Name, epoch and value of all curves: of the head, if it was trained here, and the encoder."""
    finetuning = workspace.finetuning_history(dataset) or {}
    head = read_history(workspace.model(dataset) / workspace.HISTORY) if trained else {}
    return [*_curves("epoch.", head), *_curves("finetune_", finetuning)]


def _curves(
    prefix: str, history: Mapping[str, NDArray[np.float64]]
) -> Iterator[tuple[str, int, float]]:
    for key, column in history.items():
        for epoch, value in zip(history["epoch"], column, strict=True):
            if key != "epoch" and not math.isnan(value):
                yield f"{prefix}{key}", int(epoch), float(value)


def tags(metrics: RunMetrics) -> dict[str, str]:
    """Tags that the results determine, including the run's note."""
    return diagnostic_tags(metrics.diagnostics) | {
        "method": metrics.method,
        "dataset": str(metrics.dataset),
        "trained_on": metrics.training.dataset or ("unknown" if metrics.head else "nothing"),
        "encoder": f"{metrics.encoder['encoder']} / {metrics.encoder['weights']}",
        "coverage": str(metrics.coverage),
        "cautions": "; ".join(metrics.cautions) or "none",
        "headline_protocol": metrics.headline.protocol,
        "mlflow.note.content": note(metrics),
    }


def diagnostic_tags(found: Sequence[Diagnostic]) -> dict[str, str]:
    """Tags with the names of all diagnostics, and the evidence and remedy of each."""
    names = {"diagnostics": ", ".join(one.name for one in found) or "none"}
    return names | {f"diagnostic.{one.name}": f"{one.evidence}; {one.remedy}" for one in found}


def note(metrics: RunMetrics) -> str:
    """The run's description in Markdown: headline, comparison and diagnostics."""
    head = metrics.headline
    between = f" [{head.interval[0]:.2f}, {head.interval[1]:.2f}]" if head.interval else ""
    lines = [f"**{head.value:.2f}**{between} {head.metric}, protocol {head.protocol}"]
    gap = metrics.gain
    if gap is not None and gap.interval is not None:
        low, high = gap.interval
        clear = "the interval excludes 0" if low > 0 or high < 0 else "the interval contains 0"
        lines.append(
            f"{gap.difference:+.2f} [{low:+.2f}, {high:+.2f}] against the deterministic head: "
            f"{clear}"
        )
    lines.append(f"{metrics.dataset}, {metrics.coverage}")
    lines += [f"**{one.name}**: {one.evidence}; {one.remedy}" for one in metrics.diagnostics]
    return "\n\n".join([*lines, "Report: `index.html`; ranked images: `figures/` (artifacts)"])


def data(dataset: str, trained: bool) -> Data:
    """The data set of the metrics; `trained` tells whether a model was trained on it, too."""
    queries = workspace.table(dataset, "queries")
    context = "train, val" if trained else "val"
    return Data(dataset, digest_file(queries)[:32], queries.parent.as_posix(), context)
