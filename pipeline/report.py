"""Stage `report`: one page with tables, curves and ranked images."""

from pathlib import Path

from pipeline import stage
from rau.project import provenance, workspace


def main() -> str:
    """Write `reports/index.html` and `reports/figures/`; after `finetune.val_curve`, also print how
    holdout and val correlate."""
    from rau.evaluation.run_metrics import RunMetrics
    from rau.files import digest_file
    from rau.report import run_plots, run_report
    from rau.report.examples import image_paths
    from rau.schemas import RANKINGS, read_manifest, read_queries, read_table
    from rau.training.history import read_history

    params = workspace.load_params()
    name = params.dataset.name
    metrics = RunMetrics.read(workspace.METRICS)
    history = workspace.model(name) / workspace.HISTORY
    finetuning = workspace.finetuning_history(name)
    report = run_report.make(
        params,
        metrics,
        read_history(history) if metrics.trained_here else None,
        finetuning,
        read_table(workspace.rankings(name), RANKINGS, "evaluate"),
        image_paths(workspace.store(params.dataset), read_manifest(workspace.manifest(name))),
        read_queries(workspace.table(name, "queries")),
        {
            "commit": provenance.commit(),
            "digest of the queries": digest_file(workspace.table(name, "queries"))[:16],
            "key of the encoder": metrics.encoder.get("key", "unknown"),
            "machine of this page": provenance.machine(),
        },
    )
    report.write(workspace.PAGE, workspace.FIGURES)
    told = "" if finetuning is None else run_plots.agreement(finetuning)
    return f"{workspace.PAGE}; {told.rstrip('.')}" if told else str(workspace.PAGE)


def outputs() -> list[Path]:
    """The page."""
    return [workspace.PAGE]


if __name__ == "__main__":
    stage.run(main, outputs)
