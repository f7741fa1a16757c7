"""Stage `report`: one page with tables, curves and ranked pictures."""

from pathlib import Path

from pipeline import stage, workspace

STRIPS = 4


def main() -> None:
    """Write `reports/index.html` and `reports/figures/`, and print the means."""
    import pyarrow.compute as pc

    from rau.evaluation.run_metrics import RunMetrics
    from rau.files import write_bytes, write_text
    from rau.models.config import is_uncertain
    from rau.params import of_a_run
    from rau.report import examples, figures, html, run_page
    from rau.retrieval import protocols
    from rau.schemas import MANIFEST, QUERIES, RANKINGS, read_table
    from rau.training.history import read_history

    params = workspace.load_params()
    name = params.dataset.name
    metrics = RunMetrics.read(workspace.METRICS)
    history = read_history(workspace.model(name) / workspace.HISTORY)
    rankings = read_table(workspace.rankings(name), RANKINGS, "evaluate")
    protocol = metrics.headline.protocol
    mine = rankings.filter(
        (pc.field("method") == metrics.method) & (pc.field("protocol") == protocol)
    ).to_pylist()
    drawn = {
        "Loss terms by epoch": figures.losses(history),
        "Recall on the holdout by epoch": figures.recalls(history, metrics.training.best_epoch),
    }
    if is_uncertain(params):
        drawn["σ of source and target"] = figures.sigmas(
            history,
            [row["uncertainty"] for row in mine if row["uncertainty"] is not None],
            [row["target_uncertainty"] for row in mine if row["uncertainty"] is not None],
        )
    pictures = {caption: html.png(figure) for caption, figure in drawn.items()}
    root = workspace.store(params.dataset)
    manifest = read_table(workspace.manifest(name), MANIFEST, "download").to_pylist()
    paths = {row["image_id"]: root / row["path"] for row in manifest if row["status"] == "ok"}
    queries = read_table(workspace.table(name, "queries"), QUERIES, "tables").to_pylist()
    relevant = {q["query_id"]: q["relevant"] for q in queries if q["relevant"] is not None}
    groups = examples.groups(mine, paths, relevant, STRIPS)
    measured = protocols.select(name, params.evaluate)
    text = run_page.render(metrics, measured, of_a_run(params), pictures, groups)
    for caption, data in pictures.items():
        write_bytes(workspace.FIGURES / f"{caption.split()[0].lower()}.png", data)
    strips = [strip for group in groups.values() for strip in group]
    for number, (_, image) in enumerate(strips, 1):
        write_bytes(workspace.FIGURES / f"strip_{number:02}.jpg", html.jpeg(image))
    write_text(workspace.PAGE, text)
    print(f"report: {workspace.PAGE}")


def outputs() -> list[Path]:
    """The page."""
    return [workspace.PAGE]


if __name__ == "__main__":
    stage.run(main, outputs)
