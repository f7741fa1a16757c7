"""Stage `features`: every image and every distinct text encoded once, cached as Parquet."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline import stage, workspace

KINDS = ("images", "texts")


def main(
    listed: Annotated[
        Path | None,
        typer.Option(
            "--list", help="write the needed ids and texts to this folder as JSON, and stop"
        ),
    ] = None,
) -> None:
    """Write `data/features/<dataset>/{images,texts}.parquet`, and `pairs.parquet` where the
    encoder takes a picture and a text in one pass."""
    from rau.datasets.captions import all_texts
    from rau.features import precomputed
    from rau.files import user_path, write_json
    from rau.schemas import MANIFEST, QUERIES, read_table

    params = workspace.load_params()
    name = params.dataset.name
    manifest = read_table(workspace.manifest(name), MANIFEST, "download")
    queries = read_table(workspace.table(name, "queries"), QUERIES, "tables")
    rows = manifest.select(["image_id", "status"]).to_pylist()
    images = [row["image_id"] for row in rows if row["status"] == "ok"]
    asked = queries.select(["captions", "concept"]).to_pylist()
    texts = sorted({text for query in asked for text in all_texts(**query)})
    if listed is not None:
        write_json(listed / "image_ids.json", images)
        write_json(listed / "texts.json", texts)
        print(f"{len(images):,} image ids and {len(texts):,} texts: {listed}")
        raise typer.Exit
    # Of an encoder before, which composed.
    workspace.features(name, "pairs").unlink(missing_ok=True)
    if params.features.source is not None:
        source = user_path(params.features.source, workspace.main_checkout(), "features.source")
        targets = {kind: workspace.features(name, kind) for kind in KINDS}
        needed = {"images": images, "texts": texts}
        precomputed.take(source, needed, targets, params.features.shared_space)
    else:
        _encode(params, manifest, queries.to_pylist(), texts)


def _encode(params: Any, manifest: Any, queries: Any, texts: list[str]) -> None:
    """Encode the images, texts and pairs that are not in the cache yet."""
    from rau import devices
    from rau.encoders import encoder
    from rau.features import cache
    from rau.schemas import cautions

    threads = stage.limit_threads(params.train.threads)
    name = params.dataset.name
    loaded = encoder.load(
        workspace.encoder(name),
        devices.choose(params.train.device),
        params.features.precision,
        params.encoder.trust_remote_code,
    )
    parts = cache.Cache(workspace.parts(), loaded, params.features.dtype)
    batch = params.features.batch_size
    workers = params.features.workers or threads
    about = parts.encode_texts(workspace.features(name, "texts"), texts, batch, workers)
    built_in = (name, params.dataset.root) == ("garments", None)
    for caution in cautions(about, built_in):
        print(f"warning: {caution}", file=sys.stderr)
    images = cache.image_items(manifest, workspace.store(params.dataset))
    parts.encode_images(workspace.features(name, "images"), images, batch, workers)
    if loaded.encode_pairs is not None:
        pairs = cache.val_pairs(queries, images)
        parts.encode_pairs(workspace.features(name, "pairs"), pairs, batch, workers)


def outputs() -> list[Path]:
    """The feature files."""
    name = workspace.load_params().dataset.name
    paths = (workspace.features(name, kind) for kind in (*KINDS, "pairs"))
    return [path for path in paths if path.exists()]


if __name__ == "__main__":
    stage.run(main, outputs)
