"""Stage `download`: images and annotations in the store, described by a manifest."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pipeline import stage
from rau import cpu
from rau.console import printable
from rau.project import workspace


def main(
    again: Annotated[
        list[str] | None,
        typer.Option(help="id of an image that has changed: verify only such ones, and stop"),
    ] = None,
) -> str:
    """Fetch, generate or find the images; write `data/manifests/<dataset>.parquet`."""
    import pyarrow as pa

    from rau.datasets import coverage, manifest, verification
    from rau.datasets.annotations import Annotations
    from rau.datasets.registry import CARDS
    from rau.download.fill import fill
    from rau.files import digest_files, write_text
    from rau.schemas import MANIFEST, read_table, write_table

    dataset = workspace.load_params().dataset
    root = workspace.store(dataset)
    card = CARDS.get(dataset.name)
    placeholders = card is not None and card.placeholders
    path = workspace.manifest(dataset.name)
    if again:
        old = read_table(path, MANIFEST, "download")
        table = manifest.inspect_again(old, root, again, placeholders)
        write_table(path, table, MANIFEST, old.schema.metadata)
        return stage.Partial(
            f"{len(again):,} images verified again; now `dvc commit --force watch download`"
        )

    def filled() -> tuple[Annotations, pa.Table]:
        done = fill(dataset, root, workspace.main_checkout(), cpu.cores())
        table = manifest.build(root, done.images, done.sources, cpu.cores(), placeholders)
        return done.annotations, table

    annotations, table = filled()
    if dataset.root is None and manifest.remove_corrupt(table, root):
        annotations, table = filled()
    for note in annotations.notes:
        print(f"note: {printable(note)}")
    found = coverage.of_manifest(annotations.splits, annotations.queries, table)
    if not found.complete:
        print(coverage.table(annotations.splits, annotations.queries, table))
    listing = workspace.missing(dataset.name)
    write_text(listing, coverage.missing(table))
    coverage.check(table, dataset.allow_missing, root, listing)
    label = workspace.dataset_label(dataset)
    if card is not None:
        gallery = annotations.galleries.get("original", {})
        comparison = verification.compare(card, annotations.files, gallery)
        label |= asdict(comparison)
        if comparison.copy == "official":
            for note in verification.unexpected(card, annotations.queries):
                print(f"note: {printable(note)}")
    # With the digest of the annotations, the manifest changes when any of them does.
    about = {"annotations": digest_files(annotations.files.values()), "dataset": json.dumps(label)}
    write_table(path, table, MANIFEST, about)
    return f"{dataset.name}: {found}"


def outputs() -> list[Path]:
    """The manifest."""
    return [workspace.manifest(workspace.load_params().dataset.name)]


if __name__ == "__main__":
    stage.run(main, outputs)
