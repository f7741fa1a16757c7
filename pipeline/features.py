"""Stage `features`: every image and every distinct text encoded once, cached as Parquet."""

from pathlib import Path

from pipeline import stage, store, workspace


def main() -> None:
    """Write `data/features/<dataset>/{images,texts}.parquet`."""
    from rau import cache, devices, encoder
    from rau.joins import all_texts
    from rau.schemas import MANIFEST, QUERIES, read_table

    params = workspace.load_params()
    stage.limit_threads(params.train.threads)
    name = params.dataset.name
    manifest = read_table(workspace.manifest(name), MANIFEST, "download")
    queries = read_table(workspace.table(name, "queries"), QUERIES, "tables")
    loaded = encoder.load(workspace.ENCODER, devices.choose("auto"))
    parts = cache.Cache(workspace.parts(), loaded, params.features.dtype)
    batch = params.features.batch_size
    workers = params.features.workers or stage.cores()
    images = cache.image_items(manifest, store.folder(params.dataset))
    parts.encode_images(workspace.features(name, "images"), images, batch, workers)
    texts = sorted({t for captions in queries["captions"].to_pylist() for t in all_texts(captions)})
    parts.encode_texts(workspace.features(name, "texts"), texts, batch)


def outputs() -> list[Path]:
    """Both feature files."""
    name = workspace.load_params().dataset.name
    return [workspace.features(name, kind) for kind in ("images", "texts")]


if __name__ == "__main__":
    stage.run(main, outputs)
