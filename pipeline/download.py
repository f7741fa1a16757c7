"""Stage `download`: images and annotations in the store, described by a manifest."""

import json
from dataclasses import asdict
from pathlib import Path

from pipeline import stage, workspace


def main() -> None:
    """Fetch, generate or find the images; write `data/manifests/<dataset>.parquet`."""
    from rau.datasets import coverage, manifest, verification
    from rau.datasets.readers import reader
    from rau.datasets.registry import CARDS
    from rau.download.fill import fill
    from rau.files import digest_files, write_text
    from rau.schemas import MANIFEST, write_table

    dataset = workspace.load_params().dataset
    root = workspace.store(dataset)
    card = CARDS.get(dataset.name)
    layout = reader(dataset.name)
    sources = fill(dataset, root, workspace.main_checkout(), stage.cores())
    annotations = layout.read_annotations(root)
    images = {image_id: annotations.places(image_id) for image_id in annotations.image_ids}
    placeholders = card is not None and card.placeholders
    table = manifest.build(root, images, sources, stage.cores(), placeholders)
    if dataset.root is None and (corrupt := manifest.corrupt_files(table, root)):
        for path in corrupt:
            path.unlink()
        sources = fill(dataset, root, workspace.main_checkout(), stage.cores())
        table = manifest.build(root, images, sources, stage.cores(), placeholders)
    print(coverage.table(annotations.splits, annotations.queries, table))
    listing = workspace.missing(dataset.name)
    write_text(listing, coverage.missing(table))
    coverage.check(table, dataset.allow_missing, root, listing)
    files = layout.annotation_files(root)
    label = workspace.dataset_label(dataset)
    if card is not None:
        comparison = verification.compare(card, root, files)
        label |= asdict(comparison)
        if comparison.copy == "official":
            for note in verification.unexpected(card, annotations.queries):
                print(f"note: {note}")
    # With the digest of the annotations, the manifest changes when any of them does.
    about = {"annotations": digest_files(files), "dataset": json.dumps(label)}
    write_table(workspace.manifest(dataset.name), table, MANIFEST, about)


def outputs() -> list[Path]:
    """The manifest."""
    return [workspace.manifest(workspace.load_params().dataset.name)]


if __name__ == "__main__":
    stage.run(main, outputs)
