"""Stage `download`: images and annotations in the store, described by a manifest."""

from pathlib import Path

from pipeline import stage, store, workspace


def main() -> None:
    """Draw or find the images of the data set and write `data/manifests/<dataset>.parquet`."""
    from rau import manifest
    from rau.datasets import garments
    from rau.datasets.readers import reader
    from rau.files import digest_files
    from rau.schemas import MANIFEST, write_table

    dataset = workspace.load_params().dataset
    root = store.folder(dataset)
    drawn = dataset.name == "garments" and dataset.root is None
    if drawn:
        garments.generate(root, store.garments_spec(dataset), workers=stage.cores())
    layout = reader(dataset.name)
    annotations = layout.read_annotations(root)
    images = {image_id: annotations.places(image_id) for image_id in annotations.image_ids}
    source = "drawn" if drawn else "dataset.root"
    table = manifest.build(root, images, source, workers=stage.cores())
    if drawn and (corrupt := manifest.corrupt_files(table, root)):
        for path in corrupt:
            path.unlink()
        garments.generate(root, store.garments_spec(dataset), workers=stage.cores())
        table = manifest.build(root, images, source, workers=stage.cores())
    print(manifest.check_coverage(table, dataset.allow_missing, root))
    # With the annotations' digest in it, the manifest changes when any of them does.
    about = {"annotations": digest_files(layout.annotation_files(root))}
    write_table(workspace.manifest(dataset.name), table, MANIFEST, about)


def outputs() -> list[Path]:
    """The manifest."""
    return [workspace.manifest(workspace.load_params().dataset.name)]


if __name__ == "__main__":
    stage.run(main, outputs)
