"""Stage `track`: log the finished run in MLflow, also if DVC restored it from its cache."""

import sys
from typing import TYPE_CHECKING

from pipeline import stage
from rau.project import workspace

if TYPE_CHECKING:
    from rau.project.timings import Timing

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


def timings() -> "dict[str, Timing]":
    """The known timings of the stages that created the current outputs."""
    from importlib import import_module

    from rau.project.timings import read

    found = {name: read(name, import_module(f"pipeline.{name}").outputs()) for name in STAGES}
    return {name: timing for name, timing in found.items() if timing is not None}


def main() -> str | None:
    """Create or complete the MLflow run of the results in `reports/`."""
    from rau import tracking
    from rau.evaluation.run_metrics import RunMetrics
    from rau.project import galleries, run_record
    from rau.report.run_page import text_table

    params = workspace.load_params()
    metrics = RunMetrics.read(workspace.METRICS)
    record = run_record.record(params, metrics, timings())
    root = workspace.main_checkout()
    uri, artifacts = tracking.store_uri(root), root / "mlruns"
    print(text_table(metrics))
    print(metrics.coverage)
    try:
        run, (known,) = tracking.track(record, uri, artifacts)
        line = f"MLflow run {run}" + (" (tracked before)" if known else "")
        if params.track.model and tracking.tag(uri, run, tracking.MODEL) is None:
            line += f"; {galleries.log_search(params, uri, artifacts, run)}"
    except tracking.TrackingUnavailable as error:
        print(f"warning: {error}; run `python -m pipeline.track` later", file=sys.stderr)
        return None
    return line


if __name__ == "__main__":
    stage.run(main)
