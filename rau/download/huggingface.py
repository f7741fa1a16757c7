"""Images from Parquet files on the Hugging Face hub."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from httpx2 import HTTPError
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import RepoFile

from rau.datasets.registry import Mirror, Pool
from rau.download.image_store import ImageStore
from rau.progress import tqdm

BATCH = 64
MAX_LINE = 1 << 16
MAX_FILE = 32 * 2**30


class Unusable(Exception):
    """A mirror cannot be reached, or does not match its card."""


def fetch_images(mirror: Mirror, store: ImageStore, hub: HfApi) -> str:
    """Add missing images from a mirror; a file that was read to its end is not fetched again.

    Returns:
        The outcome as text.

    Raises:
        Unusable: if the mirror cannot be used.
    """
    before = len(store.missing)
    try:
        ids = None if mirror.pool is None else _pool(mirror.pool, store, hub)
        for name in _files(mirror, hub):
            if store.exhausted(mirror.repository, name):
                continue
            path = _download(hub, mirror, name, store)
            found = _take(path, mirror, ids, store)
            store.journal.finish(mirror.repository, name, found)
            path.unlink()
    except (HTTPError, HfHubHTTPError, OSError) as error:
        line = str(error).strip().partition("\n")[0]
        raise Unusable(f"{type(error).__name__}: {line}") from error
    return f"{before - len(store.missing):,} images"


def _files(mirror: Mirror, hub: HfApi) -> list[str]:
    """The Parquet files of a mirror; first those of its corpus, which contain every image once."""
    tree = hub.list_repo_tree(
        mirror.repository, recursive=True, revision=mirror.revision, repo_type="dataset"
    )
    files = [e for e in tree if isinstance(e, RepoFile) and e.path.endswith(".parquet")]
    if not files:
        raise Unusable(f"{mirror.repository} contains no Parquet file")
    for file in files:
        if file.size > MAX_FILE or ".." in file.path.split("/") or file.path.startswith("/"):
            raise Unusable(f"{mirror.repository}: {file.path!r} is too large or leaves its folder")
    names = [file.path for file in files]
    return sorted(names, key=lambda name: ("corpus" not in name, name))


def _download(hub: HfApi, repo: Mirror | Pool, name: str, store: ImageStore) -> Path:
    folder = store.root / ".hub" / repo.repository.replace("/", "--")
    return Path(
        hub.hf_hub_download(
            repo.repository, name, repo_type="dataset", revision=repo.revision, local_dir=folder
        )
    )


def _pool(pool: Pool, store: ImageStore, hub: HfApi) -> dict[str, str]:
    """Image ids by the mirror's own ids, from the names of the pool's image files."""
    path = _download(hub, pool, pool.path, store)
    ids: dict[str, str] = {}
    with path.open(encoding="utf-8", errors="replace") as file:
        while line := file.readline(MAX_LINE):
            try:
                entry = json.loads(line)
                ids[str(entry["did"])] = Path(str(entry["img_path"])).stem
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise Unusable(f"{pool.repository}/{pool.path}: line {len(ids) + 1}") from error
    return ids


def _rows(path: Path, mirror: Mirror) -> Iterator[tuple[str, bytes]]:
    """The mirror's own id and the image of every row; nothing for a file without images."""
    columns = [mirror.id_column, mirror.image_column]
    with pq.ParquetFile(path) as file:
        if absent := set(columns) - set(file.schema_arrow.names):
            # A mirror also has files of queries and relevance, with other columns.
            if "corpus" in path.name:
                raise Unusable(f"{path.name} has no column {min(absent)!r}")
            return
        kind = file.schema_arrow.field(mirror.image_column).type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            kind = kind.field("bytes").type
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise Unusable(f"{path.name}: {mirror.image_column} is {kind}, not files of images")
        with tqdm(total=file.metadata.num_rows, desc=mirror.repository, unit="row") as bar:
            for batch in file.iter_batches(BATCH, columns=columns):
                for row in batch.to_pylist():
                    image = row[mirror.image_column]
                    content = image["bytes"] if isinstance(image, dict) else image
                    yield str(row[mirror.id_column]), content or b""
                bar.update(batch.num_rows)


def _take(path: Path, mirror: Mirror, ids: dict[str, str] | None, store: ImageStore) -> list[str]:
    """Add the missing images of one file; returns the ids of all images of the store in it."""
    wanted = set(store.wanted)
    askable = set(store.askable(mirror.repository))
    holds: dict[str, None] = {}
    try:
        for name, content in _rows(path, mirror):
            image_id = name if ids is None else ids.get(name)
            if image_id not in wanted:
                continue
            holds[image_id] = None
            if image_id in askable:
                store.take(image_id, content, mirror.repository)
                askable.discard(image_id)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        path.unlink()
        raise Unusable(
            f"{path.name} is not a complete Parquet file; run again to fetch it"
        ) from error
    return list(holds)
