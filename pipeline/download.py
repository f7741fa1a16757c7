"""Stage `download`: images and annotations in the store, described by a manifest."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline import stage
from rau import cpu
from rau.console import printable
from rau.project import workspace

if TYPE_CHECKING:
    import pyarrow as pa

    from rau.download.fill import Filled
    from rau.params import DatasetParams

# Of the manifest, for the coverage: all columns of many images would take much memory.
COLUMNS = ("image_id", "path", "source", "status", "reason")


def main(
    again: Annotated[
        list[str] | None,
        typer.Option(help="id of an image that has changed: verify only such ones, and stop"),
    ] = None,
) -> str:
    """Fetch, generate or find the images; write `data/manifests/<dataset>.parquet`."""
    from rau.datasets import coverage, manifest
    from rau.download.fill import fill
    from rau.files import atomic_path, write_text

    dataset = workspace.load_params().dataset
    root = workspace.store(dataset)
    if again:
        return _verified_again(dataset, root, again)
    done = fill(dataset, root, workspace.main_checkout(), cpu.cores())
    with atomic_path(workspace.manifest(dataset.name)) as temporary:
        table, notes = _listed(dataset, root, done, temporary)
        if dataset.root is None and manifest.remove_corrupt(table, root):
            done = fill(dataset, root, workspace.main_checkout(), cpu.cores())
            table, notes = _listed(dataset, root, done, temporary)
        known = done.annotations
        for note in known.notes:
            print(f"note: {printable(note)}")
        found = coverage.of_manifest(known.splits, known.queries, table)
        if not found.complete:
            print(coverage.table(known.splits, known.queries, table))
        listing = workspace.missing(dataset.name)
        write_text(listing, coverage.missing(table))
        coverage.check(table, dataset.allow_missing, root, listing)
        for note in notes:
            print(f"note: {printable(note)}")
    return f"{dataset.name}: {found}"


def _listed(
    dataset: "DatasetParams", root: Path, done: "Filled", path: Path
) -> "tuple[pa.Table, list[str]]":
    """Write the manifest of a store; returns `COLUMNS` of it, and notes on the data set's copy."""
    from rau.datasets import manifest, verification
    from rau.datasets.registry import CARDS, has_placeholders
    from rau.files import digest_files
    from rau.schemas import MANIFEST, read_table, write_batches

    card, known = CARDS.get(dataset.name), done.annotations
    label, notes = workspace.dataset_label(dataset), []
    if card is not None:
        gallery = known.galleries.get("original", {})
        comparison = verification.compare(card, known.files, gallery)
        label |= asdict(comparison)
        if comparison.copy == "official":
            notes = verification.unexpected(card, known.queries)
    # With the digest of the annotations, the manifest changes when any of them does.
    about = {"annotations": digest_files(known.files.values()), "dataset": json.dumps(label)}
    rows = manifest.rows(
        root, done.images, done.sources, cpu.cores(), has_placeholders(dataset.name)
    )
    write_batches(path, rows, MANIFEST, about)
    return read_table(path, MANIFEST, "download", COLUMNS), notes


def _verified_again(dataset: "DatasetParams", root: Path, image_ids: list[str]) -> str:
    """Verify some images anew in the manifest; returns the stage's line."""
    from rau.datasets import manifest
    from rau.datasets.registry import has_placeholders
    from rau.schemas import MANIFEST, read_table, write_table

    path = workspace.manifest(dataset.name)
    old = read_table(path, MANIFEST, "download")
    table = manifest.inspect_again(old, root, image_ids, has_placeholders(dataset.name))
    write_table(path, table, MANIFEST, old.schema.metadata)
    return stage.Partial(
        f"{len(image_ids):,} images verified again; now `dvc commit --force watch download`"
    )


def outputs() -> list[Path]:
    """The manifest."""
    return [workspace.manifest(workspace.load_params().dataset.name)]


if __name__ == "__main__":
    stage.run(main, outputs)
