"""A data set's hosts, rebuilt on a local server from an annotation folder and drawn pictures."""

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import HfApi
from PIL import Image

from rau.datasets import fashioniq
from rau.datasets.annotations import Annotations
from rau.datasets.registry import FASHIONIQ, DatasetCard, Files
from rau.download.acquire import acquire
from rau.download.http_client import Client
from tests.image_files import saved
from tests.server import Server

CATEGORIES = ("dress", "shirt", "toptee")
TABLES = "image_url"


def picture(image_id: str) -> bytes:
    """A JPEG of its own for every id."""
    block = Image.frombytes("RGB", (2, 2), hashlib.sha256(image_id.encode()).digest()[:12])
    return saved(block.resize((8, 8), Image.Resampling.NEAREST), "JPEG", quality=90)


def write_annotations(root: Path, images: int) -> None:
    """A small FashionIQ: `images` ids a category, a third of them in each split."""
    for folder in ("captions", "image_splits"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for category in CATEGORIES:
        ids = [f"{category[0].upper()}{n:05}" for n in range(images)]
        for start, split in enumerate(("train", "val", "test")):
            own = ids[start::3]
            queries = [
                {"candidate": a, "captions": ["is red", "is long"]}
                | ({} if split == "test" else {"target": b})
                for a, b in pairwise(own)
            ]
            name = f"{category}.{split}.json"
            (root / "image_splits" / f"split.{name}").write_text(json.dumps(own))
            (root / "captions" / f"cap.{name}").write_text(json.dumps(queries))


def digests(folder: Path, paths: Iterable[Path]) -> dict[str, str | None]:
    """SHA-256 by relative path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(paths)
    }


def card(url: str, folder: Path) -> DatasetCard:
    """FashionIQ's card, with the files of `folder` and the hosts at `url`."""
    files = fashioniq.read_annotations(folder).files.values()
    tables = [folder / TABLES / f"asin2url.{category}.txt" for category in CATEGORIES]
    assert FASHIONIQ.url_tables is not None
    host = f"{url}/github"
    return replace(
        FASHIONIQ,
        annotations=replace(FASHIONIQ.annotations, digests=digests(folder, files), host=host),
        url_tables=replace(FASHIONIQ.url_tables, digests=digests(folder, tables), host=host),
    )


def serve_files(host: Server, folder: Path, files: Files) -> None:
    """Files of a repository at its pinned revision."""
    for path in files.digests:
        host.files[f"/github/{files.repository}/{files.revisions[0]}/{path}"] = folder / path


def parquet(rows: dict[str, bytes | None], id_column: str, image_column: str) -> bytes:
    """A mirror's file."""
    images = [{"bytes": content, "path": None} for content in rows.values()]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table(
        {
            id_column: list(rows),
            "modality": ["image"] * len(rows),
            image_column: pa.array(images, kind),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=500)
    return buffer.getvalue()


def serve(
    host: Server,
    folder: Path,
    annotations: Annotations,
    first: dict[str, bytes | None],
    second: dict[str, bytes | None],
    by_url: dict[str, str],
) -> DatasetCard:
    """Put everything on the server.

    Args:
        folder: annotation files; URL tables are written there.
        first: what the first mirror holds, by image id, in two files behind a pool.
        second: what the second mirror holds.
        by_url: mood by image id, of what the URL tables name.

    Returns:
        The card that leads there.
    """
    (folder / TABLES).mkdir(exist_ok=True)
    for category in CATEGORIES:
        own = {i for (c, _), ids in annotations.splits.items() if c == category for i in ids}
        lines = [f"{i} \t {host.url}/img/{i}.jpg\n" for i in by_url if i in own]
        (folder / TABLES / f"asin2url.{category}.txt").write_text("".join(lines))
    made = card(host.url, folder)
    assert made.url_tables is not None
    serve_files(host, folder, made.annotations)
    serve_files(host, folder, made.url_tables)
    mirror, other = made.mirrors
    assert mirror.pool is not None
    number = {image_id: f"7:{n}" for n, image_id in enumerate(first)}
    at = f"/datasets/{mirror.repository}/resolve/{mirror.revision}"
    ids = list(first)
    for shard, half in enumerate((ids[: len(ids) // 2], ids[len(ids) // 2 :])):
        rows = {number[i]: first[i] for i in half}
        host.files[f"{at}/corpus-0000{shard}-of-00002.parquet"] = parquet(rows, "id", "image")
    host.files[f"{at}/qrels-00000-of-00001.parquet"] = parquet({}, "query-id", "none")
    pool = [
        {"did": did, "img_path": f"mbeir_images/fashioniq_images/{i}.jpg", "txt": None}
        for i, did in number.items()
    ]
    place = f"/datasets/{mirror.pool.repository}/resolve/main/{mirror.pool.path}"
    host.files[place] = "\n".join(map(json.dumps, pool)).encode()
    place = f"/datasets/{other.repository}/resolve/main/data/val-00000-of-00001.parquet"
    host.files[place] = parquet(second, "id", "img")
    for image_id, mood in by_url.items():
        host.files[f"/img/{image_id}.jpg"] = picture(image_id)
        host.moods[f"/img/{image_id}.jpg"] = mood
    return made


def fetch(url: str, folder: Path, root: Path, connections: int = 8) -> dict[str, str]:
    """Fill a store from the hosts at `url`, impatiently."""
    with Client(connections, backoff=0.01, slowest=1000, patience=0.2, timeout=10) as client:
        return dict(acquire(card(url, folder), root, client, HfApi(url)))
