"""Stage `features`: every image and every distinct text encoded once, cached as Parquet."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline import stage
from rau import cpu
from rau.project import workspace

if TYPE_CHECKING:
    from rau.encoders.encoder import Encoder
    from rau.features.cache import Engine
    from rau.features.items import Images
    from rau.params import Params
    from rau.schemas import QueryRow
    from rau.shards import Shard

KINDS = ("images", "texts")


def main(
    listed: Annotated[
        Path | None,
        typer.Option(
            "--list", help="only write the needed image ids and texts to this folder, as JSON"
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(help="i/n: only encode shard i of n; a run without --shard combines them"),
    ] = None,
) -> str:
    """Write `data/features/<dataset>/{images,texts}.parquet`, and `pairs.parquet` if the encoder
    encodes an image and a text in one pass."""
    import pyarrow as pa

    from rau.errors import UserError
    from rau.features import precomputed
    from rau.files import user_path, write_json
    from rau.shards import Shard

    share = None if shard is None else Shard.parse(shard)
    params = workspace.load_params()
    name = params.dataset.name
    images, queries, texts = _needed(params)
    if listed is not None:
        write_json(listed / "image_ids.json", images.names.to_pylist())
        write_json(listed / "texts.json", texts)
        return stage.Partial(f"{len(images):,} image ids and {len(texts):,} texts: {listed}")
    if share is None:
        # It may be left from another encoder, which composed.
        workspace.features(name, "pairs").unlink(missing_ok=True)
    if params.features.source is None:
        return _encode(params, images, queries, texts, share)
    if share is not None:
        raise UserError("--shard: with features.source nothing is encoded; omit --shard")
    source = user_path(params.features.source, workspace.main_checkout(), "features.source")
    targets = {kind: workspace.features(name, kind) for kind in KINDS}
    needed = {"images": images.names, "texts": pa.array(texts, pa.string())}
    precomputed.take(source, needed, targets, params.features.shared_space)
    return f"{len(images):,} images and {len(texts):,} texts of {source}"


def _needed(params: "Params") -> "tuple[Images, list[QueryRow], list[str]]":
    """The valid images, all queries, and the queries' distinct texts in order."""
    from rau.datasets.captions import all_texts
    from rau.features.items import COLUMNS, image_items
    from rau.schemas import MANIFEST, read_queries, read_table

    name = params.dataset.name
    manifest = read_table(workspace.manifest(name), MANIFEST, "download", (*COLUMNS, "status"))
    queries = read_queries(workspace.table(name, "queries"))
    texts = {text for query in queries for text in all_texts(query["captions"], query["concept"])}
    return image_items(manifest, workspace.store(params.dataset)), queries, sorted(texts)


def _encode(
    params: "Params",
    images: "Images",
    queries: "Sequence[QueryRow]",
    texts: list[str],
    shard: "Shard | None",
) -> str:
    """Encode the images, texts and pairs that are not cached; with a shard, only its own.

    Returns:
        The stage's line.
    """
    from rau import devices
    from rau.encoders import encoder
    from rau.features import cache
    from rau.features.item import text_items
    from rau.features.items import val_pairs

    threads = cpu.limit_threads(params.train.threads)
    name = params.dataset.name
    loaded = encoder.load(
        workspace.encoder(name),
        devices.choose(params.train.device),
        params.features.precision,
        params.encoder.trust_remote_code,
    )
    size = params.features.batch_size, params.features.workers or threads
    pairs = None if loaded.encode_pairs is None else val_pairs(queries, images)
    with ExitStack() as stack:
        engine = _engine(params, loaded, stack)
        parts = cache.Cache(workspace.parts(), loaded, params.features.dtype, engine)
        if shard is not None:
            parts.fill("texts", text_items(texts), *size, shard)
            parts.fill("images", images, *size, shard)
            if pairs is not None:
                parts.fill("pairs", pairs, *size, shard)
            return stage.Partial(f"shard {shard} of the images and texts is encoded")
        about = parts.encode_texts(workspace.features(name, "texts"), texts, *size)
        stage.warn(about, params.dataset)
        parts.encode_images(workspace.features(name, "images"), images, *size)
        if pairs is not None:
            parts.encode_pairs(workspace.features(name, "pairs"), pairs, *size)
    return f"{len(images):,} images and {len(texts):,} texts by {loaded.name}"


def _engine(params: "Params", loaded: "Encoder", stack: ExitStack) -> "Engine":
    """The engine `features.engine`; the stack closes its connection."""
    from rau.features import cache

    if params.features.engine == "local":
        return cache.LocalEngine(loaded)
    from rau.features import on_ray

    model = on_ray.Model.of(loaded, workspace.encoder(params.dataset.name), params)
    return on_ray.OnRay(loaded, model, params.features.workers, stack)


def outputs() -> list[Path]:
    """The feature files."""
    name = workspace.load_params().dataset.name
    paths = (workspace.features(name, kind) for kind in (*KINDS, "pairs"))
    return [path for path in paths if path.exists()]


if __name__ == "__main__":
    stage.run(main, outputs)
