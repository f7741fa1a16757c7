"""Stage `report` of the studies: their page and figures, from their tables."""

import json
from pathlib import Path
from typing import Any

from pipeline import stage, workspace


def main() -> None:
    """Write `reports/studies/<dataset>/`: index.html and a figure a study."""
    import pandas as pd

    from rau.datasets import coverage
    from rau.features.table import read_features
    from rau.files import read_json, write_bytes, write_json, write_text
    from rau.report.html import png
    from rau.schemas import GALLERIES, IMAGES, QUERIES, read_table
    from rau.studies import figures, plan, study_page

    params = workspace.load_params()
    name = params.dataset.name
    folder, target = workspace.studies(name), workspace.study_page(name).parent
    metadata = read_features(workspace.features(name, "texts"), "text").metadata
    queries = read_table(workspace.table(name, "queries"), QUERIES, "tables")
    data = json.loads(queries.schema.metadata[b"dataset"])
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
    rows = read_table(workspace.table(name, "images"), IMAGES, "tables").to_pylist()
    galleries = read_table(workspace.table(name, "galleries"), GALLERIES, "tables").to_pylist()
    val = {row["image_id"] for row in galleries if row["gallery"] == "original"}
    about = {
        "dataset": f"{data['name']} ({data['copy']})",
        "coverage": coverage.line(coverage.measure(rows, queries.to_pylist(), val)),
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
