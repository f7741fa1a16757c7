"""Stage `evaluate`: recalls under every protocol, beside the baselines."""

import json
import sys
from pathlib import Path
from typing import Any

from pipeline import stage, workspace


def main() -> None:
    """Write metrics and their summary under `reports/`, rankings and submissions under `data/`."""
    from rau import devices
    from rau.datasets import coverage
    from rau.evaluation import benchmark, submissions
    from rau.features import table
    from rau.files import write_json
    from rau.models.methods import METHODS
    from rau.retrieval import protocols
    from rau.retrieval.feature_set import FeatureSet
    from rau.schemas import RANKINGS, write_table

    params = workspace.load_params()
    stage.limit_threads(params.train.threads)
    name = params.dataset.name
    rows, data = _tables(name)
    pair = table.read_pair(*(workspace.features(name, kind) for kind in ("images", "texts")))
    device = devices.choose(params.train.device)
    on_device = FeatureSet.on(device, *pair)
    head, extra = _head(workspace.model(name), pair, device)
    twin, _ = _head(workspace.deterministic(name), pair, device)
    label, twin_label = METHODS[head.config.name].label, METHODS["deterministic"].label
    heads = {twin_label: twin, label: head}
    shared_space = head.config.shared_space
    untrained = _untrained(workspace.model(name), extra["text_weights"], shared_space)
    measured = protocols.select(name, params.evaluate)
    result, rankings = benchmark.evaluate(
        {protocol: beside(untrained(protocol), heads, shared_space) for protocol in measured},
        rows["queries"],
        rows["galleries"],
        on_device,
        params.evaluate,
        label,
        None if label == twin_label else twin_label,
    )
    val_gallery = {r["image_id"] for r in rows["galleries"] if r["gallery"] == "original"}
    metrics = {
        "method": label,
        "dataset": data,
        "encoder": pair[0].metadata,
        "coverage": coverage.measure(rows["images"], rows["queries"], val_gallery)
        | {"unusable": params.evaluate.unusable},
        "relevance": benchmark.relevance([q for q in rows["queries"] if q["split"] == "val"]),
        "headline": benchmark.headline(result, measured[0]),
        "training": {
            key: extra[key]
            for key in ("select", "best_epoch", "text_weights", "queries", "alignment")
        },
        "signatures": _signatures(params, extra, result["against"].get(measured[0].name)),
        **result,
    }
    write_table(workspace.rankings(name), rankings, RANKINGS, about(metrics))
    write_json(workspace.METRICS, metrics)
    write_json(workspace.SUMMARY, benchmark.compact(result))
    _submit(submissions.truth(rows["queries"], rows["galleries"]), head, on_device)


def about(metrics: dict[str, Any]) -> dict[str, str]:
    """What the rankings file says of its run, read as `rau.schemas.RankingsMetadata`."""
    from rau.datasets import coverage

    return {
        "method": metrics["method"],
        "dataset": json.dumps(metrics["dataset"]),
        "encoder": f"{metrics['encoder']['encoder']}, {metrics['encoder']['weights']}",
        "coverage": coverage.line(metrics["coverage"]),
        "unusable": metrics["coverage"]["unusable"],
    }


def beside(untrained: dict[str, Any], heads: dict[str, Any], shared_space: bool) -> dict[str, Any]:
    """Baselines and heads by name; an untrained baseline with a head's name gets one of its own.

    In a shared space the head of that name has nothing to train: the two are the same.
    """
    if not shared_space:
        untrained = {f"{n}, untrained" if n in heads else n: m for n, m in untrained.items()}
    return untrained | heads


def _head(folder: Path, pair: Any, device: Any) -> tuple[Any, dict[str, Any]]:
    """A trained head and its extra, made for these features."""
    from rau.features import table
    from rau.models import checkpoint

    head, extra = checkpoint.load(folder, device)
    table.check_made_for(pair, extra["features"], head.config.d_image, head.config.d_text)
    return head, extra


def _untrained(folder: Path, weights: dict[str, float], shared_space: bool) -> Any:
    """The untrained baselines of a protocol."""
    from rau.models import baselines, checkpoint
    from rau.retrieval.protocols import weight_key

    text_map = None
    if not shared_space:
        text_map = checkpoint.load_state(folder / workspace.TEXT_MAP)[0]["text_map"]

    def of(protocol: Any) -> dict[str, Any]:
        weight = weights[weight_key(protocol.reference, protocol.join)]
        return dict(baselines.untrained(weight, text_map))

    return of


def _signatures(params: Any, extra: dict[str, Any], against: Any) -> list[dict[str, str]]:
    """What the run's own figures say went wrong."""
    from rau.evaluation.diagnostics import diagnose
    from rau.models.methods import canonical
    from rau.training.history import course, read_history

    history = read_history(workspace.model(params.dataset.name) / workspace.HISTORY)
    mean = None if against is None else against["mean"]
    found = diagnose(canonical(params), course(history), extra["alignment"], mean)
    return [signature.as_dict() for signature in found]


def _tables(dataset: str) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """The rows of the three tables, and what kind of copy of the data set they were made from."""
    from rau.errors import UserError
    from rau.schemas import GALLERIES, IMAGES, QUERIES, read_table

    schemas = {"images": IMAGES, "queries": QUERIES, "galleries": GALLERIES}
    paths = {name: workspace.table(dataset, name) for name in schemas}
    tables = {name: read_table(paths[name], schema, "tables") for name, schema in schemas.items()}
    metadata = tables["queries"].schema.metadata or {}
    if b"dataset" not in metadata:
        raise UserError(
            f"{paths['queries']} does not say which data it is of; run `python -m pipeline.tables`"
        )
    rows = {name: table.to_pylist() for name, table in tables.items()}
    return rows, json.loads(metadata[b"dataset"])


def _submit(hidden: Any, head: Any, features: Any) -> None:
    """The files for a hidden split's server, or a line that says why there are none."""
    from rau.errors import UserError
    from rau.evaluation import submissions
    from rau.files import write_json

    for outdated in workspace.SUBMISSIONS.glob("*.json"):
        outdated.unlink()
    status: dict[str, Any] = {"files": [], "reason": "the data set has no hidden image sets"}
    if hidden is not None:
        try:
            documents = submissions.build(hidden, head, features)
        except UserError as error:
            status["reason"] = str(error)
            print(f"warning: {error}", file=sys.stderr)
        else:
            paths = submissions.write(workspace.SUBMISSIONS, documents, hidden)
            status = {"files": [path.name for path in paths], "reason": None}
            print(f"submissions: {', '.join(map(str, paths))}")
    write_json(workspace.SUBMISSIONS / "status.json", status)


def outputs() -> list[Path]:
    """The metrics and the rankings."""
    return [workspace.METRICS, workspace.rankings(workspace.load_params().dataset.name)]


if __name__ == "__main__":
    stage.run(main, outputs)
