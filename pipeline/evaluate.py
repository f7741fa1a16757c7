"""Stage `evaluate`: recalls of the head and its baselines under every protocol."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from pipeline import stage
from rau import cpu
from rau.project import workspace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rau.evaluation.distractors import Distractors
    from rau.evaluation.run import TrainedHead
    from rau.params import Params
    from rau.retrieval.feature_set import FeatureSet
    from rau.retrieval.protocols import Protocol
    from rau.retrieval.tasks import Method
    from rau.schemas import GalleryRow, QueryRow


class Inputs(NamedTuple):
    """The inputs of the evaluation; `partner` is the deterministic head, None if there is none."""

    params: "Params"
    queries: "list[QueryRow]"
    galleries: "list[GalleryRow]"
    features: "FeatureSet"
    head: "TrainedHead"
    partner: "TrainedHead | None"
    methods: "Mapping[Protocol, Mapping[str, Method]]"


def main(
    shard: Annotated[
        str | None,
        typer.Option(
            help="i/n: only count shard i of n of evaluate.distractors; a run without --shard "
            "adds the shards up"
        ),
    ] = None,
) -> str:
    """Write metrics and their summary under `reports/`, rankings and submissions under `data/`."""
    from rau.errors import UserError
    from rau.evaluation import benchmark
    from rau.shards import Shard

    share = None if shard is None else Shard.parse(shard)
    inputs = _inputs()
    distractors = _distractors(inputs)
    if share is None:
        return _measure(inputs, distractors)
    if distractors is None:
        raise UserError(f"--shard {share}: there is nothing to divide; set evaluate.distractors")
    counted = benchmark.count_distractors(
        inputs.methods,
        inputs.queries,
        inputs.galleries,
        inputs.features,
        inputs.params.evaluate,
        distractors,
        share,
    )
    return stage.Partial(
        f"shard {share}: {counted.images:,} distractors counted, {counted.skipped:,} skipped"
    )


def _inputs() -> Inputs:
    from rau import devices
    from rau.evaluation import run
    from rau.features import table
    from rau.retrieval.feature_set import FeatureSet
    from rau.schemas import read_galleries, read_queries

    params = workspace.load_params()
    cpu.limit_threads(params.train.threads)
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
    partner = None
    if not (workspace.deterministic(name) / workspace.NO_HEAD).exists():
        partner = run.TrainedHead.load(workspace.deterministic(name), features)
    return Inputs(
        params,
        queries,
        galleries,
        features,
        head,
        partner,
        run.contestants(params, head, partner, text_map, pairs),
    )


def _distractors(inputs: Inputs) -> "Distractors | None":
    """The images of `evaluate.distractors`, with a key of all files that the counts depend on."""
    from rau.evaluation.distractors import Distractors
    from rau.files import digest, digest_files, user_path

    evaluate, name = inputs.params.evaluate, inputs.params.dataset.name
    if evaluate.distractors is None:
        return None
    models = (workspace.model(name), workspace.deterministic(name))
    files = [
        *(workspace.table(name, one) for one in ("queries", "galleries")),
        *sorted(workspace.features(name, "images").parent.glob("*.parquet")),
        *(path for folder in models for path in sorted(folder.glob("*.safetensors"))),
    ]
    protocol = next(iter(inputs.methods)).name
    return Distractors.open(
        evaluate.distractors,
        user_path(evaluate.distractors, workspace.main_checkout(), "evaluate.distractors"),
        inputs.features,
        inputs.queries,
        inputs.galleries,
        workspace.parts(),
        digest([digest_files(files), protocol, evaluate.top_k], 32),
    )


def _measure(inputs: Inputs, distractors: "Distractors | None") -> str:
    """Evaluate and write all results; returns the stage's line."""
    from rau.evaluation import calibration, calibration_check, run, submissions
    from rau.evaluation.run_metrics import DatasetLabel
    from rau.files import digest_file, write_json, write_text
    from rau.schemas import RANKINGS, read_images, write_table
    from rau.training.history import read_history, summary

    params, head, training = inputs.params, inputs.head, None
    name = params.dataset.name
    folder = workspace.model(name)
    fitted = calibration.Calibration.beside(folder, digest_file(folder / workspace.WEIGHTS))
    if params.train.head is None and head.record.queries["train"]:
        history = read_history(folder / workspace.HISTORY)
        training = summary(history, head.record.best_epoch)
    rows = inputs.queries, inputs.galleries
    metrics, rankings = run.evaluate_run(
        params,
        DatasetLabel.of_table(workspace.table(name, "queries")),
        read_images(workspace.table(name, "images")),
        *rows,
        inputs.features,
        inputs.methods,
        head,
        inputs.partner,
        training,
        distractors,
    )
    write_table(workspace.rankings(name), rankings, RANKINGS, run.rankings_metadata(metrics))
    if fitted is not None:
        found = calibration_check.measure_val(fitted, head.head, *rows, inputs.features)
        metrics = metrics.model_copy(update={"calibration": found})
    metrics.write(workspace.METRICS)
    write_text(workspace.RELIABILITY, calibration_check.to_csv(metrics.calibration))
    write_json(workspace.SUMMARY, metrics.main)
    status = submissions.submit(workspace.SUBMISSIONS, name, *rows, head.head, inputs.features)
    submitted = ", ".join(status["files"]) or status["reason"]
    return f"{metrics.coverage}; submissions: {submitted}"


def outputs() -> list[Path]:
    """The metrics and the rankings."""
    return [workspace.METRICS, workspace.rankings(workspace.load_params().dataset.name)]


if __name__ == "__main__":
    stage.run(main, outputs)
