"""Stage `report` of the studies: their page and figures, from their tables."""

from pathlib import Path
from typing import Any

from pipeline import stage, workspace


def main() -> None:
    """Write `reports/studies/<dataset>/`: index.html and a figure a study."""
    import pandas as pd

    from rau.datasets import coverage
    from rau.evaluation.run_metrics import DatasetLabel
    from rau.features.table import read_features
    from rau.files import read_json, write_bytes, write_json, write_text
    from rau.report.html import png
    from rau.schemas import read_galleries, read_images, read_queries
    from rau.studies import figures, plan, study_page

    params = workspace.load_params()
    name = params.dataset.name
    folder, target = workspace.studies(name), workspace.study_page(name).parent
    metadata = read_features(workspace.features(name, "texts"), "text").metadata
    queries = read_queries(workspace.table(name, "queries"))
    sections: list[dict[str, Any]] = []
    for study in plan.STUDIES:
        document = read_json(folder / study / "study.json", "study")
        summary, runs = (pd.read_csv(folder / study / f"{k}.csv") for k in ("summary", "runs"))
        picture = png(figures.DRAWN[study](summary, runs, document))
        write_bytes(target / f"{study}.png", picture)
        sections.append(
            {
                "title": study_page.TITLES[study],
                "document": document,
                "figure": picture,
                "tables": [
                    study_page.table(summary, document, protocol)
                    for protocol in summary.protocol.unique()
                ],
                "csu": study_page.csu(runs, document) if study == "theta" else None,
                "costs": study_page.costs(runs, document) if study in ("n", "methods") else None,
                "trials": study_page.trials(pd.read_csv(folder / "tune/trials.csv"))
                if study == "methods"
                else None,
            }
        )
    rows = read_images(workspace.table(name, "images"))
    galleries = read_galleries(workspace.table(name, "galleries"))
    val = {row["image_id"] for row in galleries if row["gallery"] == "original"}
    about = {
        "dataset": str(DatasetLabel.of_table(workspace.table(name, "queries"))),
        "coverage": str(coverage.measure(rows, queries, val)),
        "queries without images": params.evaluate.unusable,
        "encoder": f"{metadata['encoder']}, weights {metadata['weights']}",
        "epochs": str(plan.base(params, plan.plan(params.study)).train.epochs),
        "chosen by": f"{params.train.select} on the holdout",
    }
    write_json(target / "about.json", about)
    write_text(workspace.study_page(name), study_page.render(about, sections))
    print(f"studies: {workspace.study_page(name)}")


def outputs() -> list[Path]:
    """The page."""
    return [workspace.study_page(workspace.load_params().dataset.name)]


if __name__ == "__main__":
    stage.run(main, outputs)
