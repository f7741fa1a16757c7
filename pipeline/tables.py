"""Stage `tables`: a data set's own layout becomes three tables that every data set shares."""

from pathlib import Path

from pipeline import stage, workspace


def main() -> None:
    """Write `data/tables/<dataset>/{images,queries,galleries}.parquet`."""
    from rau.datasets.readers import reader
    from rau.schemas import GALLERIES, IMAGES, MANIFEST, QUERIES, read_table, write_table

    dataset = workspace.load_params().dataset
    manifest = read_table(workspace.manifest(dataset.name), MANIFEST, "download")
    tables = reader(dataset.name).read_annotations(workspace.store(dataset)).tables(manifest)
    for name, schema in (("images", IMAGES), ("queries", QUERIES), ("galleries", GALLERIES)):
        # What the manifest says of the copy goes along to the stages that measure.
        about = manifest.schema.metadata
        write_table(workspace.table(dataset.name, name), tables[name], schema, about)
        print(f"{name}: {tables[name].num_rows:,} rows")


def outputs() -> list[Path]:
    """The queries."""
    return [workspace.table(workspace.load_params().dataset.name, "queries")]


if __name__ == "__main__":
    stage.run(main, outputs)
