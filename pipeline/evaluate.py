"""Stage `evaluate`: recalls of the head and its baselines under every protocol."""

from pathlib import Path

from pipeline import stage, workspace


def main() -> None:
    """Write metrics and their summary under `reports/`, rankings and submissions under `data/`."""
    from rau import devices
    from rau.evaluation import calibration, calibration_check, run, submissions
    from rau.evaluation.run_metrics import DatasetLabel
    from rau.features import table
    from rau.files import write_json
    from rau.retrieval.feature_set import FeatureSet
    from rau.schemas import RANKINGS, read_galleries, read_images, read_queries, write_table
    from rau.training.history import read_history, summary

    params = workspace.load_params()
    stage.limit_threads(params.train.threads)
    name = params.dataset.name
    queries = read_queries(workspace.table(name, "queries"))
    galleries = read_galleries(workspace.table(name, "galleries"))
    pair = table.read_pair(*(workspace.features(name, kind) for kind in ("images", "texts")))
    features = FeatureSet.on(devices.choose(params.train.device), *pair)
    head = run.TrainedHead.load(workspace.model(name), features)
    text_map = None
    if not head.head.config.shared_space:
        path = workspace.model(name) / workspace.TEXT_MAP
        text_map = run.read_text_map(path, features)
    composed = workspace.features(name, "pairs")
    pairs = table.read_pairs(composed, pair[0]) if composed.exists() else None
    partner, training = workspace.deterministic(name), None
    if params.train.head is None and head.record.queries["train"]:
        history = read_history(workspace.model(name) / workspace.HISTORY)
        training = summary(history, head.record.best_epoch)
    metrics, rankings = run.evaluate_run(
        params,
        DatasetLabel.of_table(workspace.table(name, "queries")),
        read_images(workspace.table(name, "images")),
        queries,
        galleries,
        features,
        head,
        None if (partner / workspace.NO_HEAD).exists() else run.TrainedHead.load(partner, features),
        text_map,
        pairs,
        training,
    )
    write_table(workspace.rankings(name), rankings, RANKINGS, run.rankings_metadata(metrics))
    fitted = workspace.model(name) / calibration.FILE
    if fitted.exists():
        found = calibration_check.measure_val(
            calibration.Calibration.read(fitted), head.head, queries, galleries, features
        )
        metrics = metrics.model_copy(update={"calibration": found})
    metrics.write(workspace.METRICS)
    write_json(workspace.SUMMARY, metrics.main)
    folder = workspace.SUBMISSIONS
    status = submissions.submit(folder, name, queries, galleries, head.head, features)
    print(f"submissions: {', '.join(status['files']) or status['reason']}")


def outputs() -> list[Path]:
    """The metrics and the rankings."""
    return [workspace.METRICS, workspace.rankings(workspace.load_params().dataset.name)]


if __name__ == "__main__":
    stage.run(main, outputs)
