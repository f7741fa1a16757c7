"""Stage `tables`: convert a data set's layout to the three common tables."""

from pathlib import Path

from pipeline import stage
from rau.console import printable
from rau.project import workspace

# Of the manifest, for the images of a data set.
COLUMNS = ("image_id", "path", "width", "height", "status")


def main() -> str:
    """Write `data/tables/<dataset>/{images,queries,galleries}.parquet`."""
    from rau.datasets.checks import check
    from rau.datasets.coverage import unavailable
    from rau.datasets.readers import reader
    from rau.schemas import GALLERIES, IMAGES, MANIFEST, QUERIES, read_table, write_table

    dataset = workspace.load_params().dataset
    manifest = read_table(workspace.manifest(dataset.name), MANIFEST, "download", COLUMNS)
    source = reader(dataset.name, dataset.catalogue)
    annotations = source.read_annotations(workspace.store(dataset))
    tables = annotations.tables(manifest)
    gaps = unavailable(manifest).keys()
    for note in [*annotations.notes, *check(annotations, gaps)]:
        print(f"note: {printable(note)}")
    for name, schema in (("images", IMAGES), ("queries", QUERIES), ("galleries", GALLERIES)):
        # The manifest's label of the copy is passed on to later stages. The digest of the
        # annotations is not: identical tables must not rerun them.
        about = {"dataset": manifest.schema.metadata[b"dataset"].decode()}
        write_table(workspace.table(dataset.name, name), tables[name], schema, about)
    return ", ".join(f"{table.num_rows:,} {name}" for name, table in tables.items())


def outputs() -> list[Path]:
    """The queries."""
    return [workspace.table(workspace.load_params().dataset.name, "queries")]


if __name__ == "__main__":
    stage.run(main, outputs)
