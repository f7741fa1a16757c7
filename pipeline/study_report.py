"""Stage `report` of the studies: create their page and figures from their tables."""

from pipeline import stage
from rau.project import workspace


def main() -> None:
    """Write `reports/studies/<dataset>/`: index.html and one figure per study."""
    from rau.datasets import coverage
    from rau.evaluation.run_metrics import DatasetLabel
    from rau.features.table import read_features
    from rau.files import write_bytes, write_json, write_text
    from rau.project.study_runs import TRIALS
    from rau.report.html import png
    from rau.schemas import read_csv, read_galleries, read_images, read_queries
    from rau.studies import registry, study_page
    from rau.studies.tables import StudyTables

    params = workspace.load_params()
    name = params.dataset.name
    folder, target = workspace.studies(name), workspace.study_page(name).parent
    remedy = "run `python -m pipeline.study tune` again"
    sections = []
    for finished in workspace.finished_studies(name):
        study, tables = registry.load(finished), StudyTables.read(folder / finished)
        figure = study.figure(tables)
        write_bytes(target / f"{finished}.png", png(figure))
        tried = read_csv(folder / TRIALS, study_page.TRIALS, remedy) if study.tuned else None
        sections.append(study_page.section(tables, figure, tried))
    galleries = read_galleries(workspace.table(name, "galleries"))
    val = {row["image_id"] for row in galleries if row["gallery"] == "original"}
    queries = workspace.table(name, "queries")
    images = read_images(workspace.table(name, "images"))
    statuses = {row["image_id"]: row["status"] for row in images}
    about = study_page.about(
        params,
        DatasetLabel.of_table(queries),
        coverage.measure(statuses, read_queries(queries), val),
        read_features(workspace.features(name, "texts"), "text").metadata,
    )
    write_json(target / "about.json", about)
    write_text(workspace.study_page(name), study_page.render(about, sections))
    print(f"studies: {workspace.study_page(name)}")


if __name__ == "__main__":
    stage.run(main)
