"""Images out of Parquet files on the Hugging Face hub."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from httpx2 import HTTPError
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import RepoFile
from tqdm import tqdm

from rau.datasets.registry import Mirror, Pool
from rau.download.image_store import ImageStore

BATCH = 64
MAX_LINE = 1 << 16
MAX_FILE = 32 * 2**30


class Unusable(Exception):
    """A mirror that cannot be reached, or is not what its card says."""


def fetch_images(mirror: Mirror, store: ImageStore, endpoint: str | None = None) -> str:
    """Take missing images from a mirror; a file that was read to its end is not fetched again.

    Args:
        endpoint: another hub than huggingface.co.

    Returns:
        The outcome in words.

    Raises:
        Unusable: saying why.
    """
    before = len(store.missing)
    try:
        ids = None if mirror.pool is None else _pool(mirror.pool, store, endpoint)
        for name in _files(mirror, endpoint):
            askable = set(store.askable(mirror.repository))
            holds = store.journal.finished.get((mirror.repository, name))
            if not askable or (holds is not None and not holds & askable):
                continue
            path = _download(mirror.repository, name, mirror.revision, store.root, endpoint)
            found = _take(path, mirror, ids, store)
            store.journal.finish(mirror.repository, name, found)
            path.unlink()
    except (HTTPError, HfHubHTTPError, OSError) as error:
        line = str(error).strip().partition("\n")[0]
        raise Unusable(f"{type(error).__name__}: {line}") from error
    return f"{before - len(store.missing):,} images"


def _files(mirror: Mirror, endpoint: str | None) -> list[str]:
    """The Parquet files of a mirror; those of its corpus first, which hold every image once."""
    tree = HfApi(endpoint=endpoint).list_repo_tree(
        mirror.repository, recursive=True, revision=mirror.revision, repo_type="dataset"
    )
    files = [e for e in tree if isinstance(e, RepoFile) and e.path.endswith(".parquet")]
    if not files:
        raise Unusable(f"{mirror.repository} holds no Parquet file")
    for file in files:
        if file.size > MAX_FILE or ".." in file.path.split("/") or file.path.startswith("/"):
            raise Unusable(f"{mirror.repository}: {file.path!r} is too large or leaves its folder")
    names = [file.path for file in files]
    return sorted(names, key=lambda name: ("corpus" not in name, name))


def _download(repository: str, name: str, revision: str, root: Path, endpoint: str | None) -> Path:
    folder = root / ".hub" / repository.replace("/", "--")
    return Path(
        hf_hub_download(
            repository,
            name,
            repo_type="dataset",
            revision=revision,
            local_dir=folder,
            endpoint=endpoint,
        )
    )


def _pool(pool: Pool, store: ImageStore, endpoint: str | None) -> dict[str, str]:
    """Image id by the mirror's own id, read off the names of the pool's image files."""
    path = _download(pool.repository, pool.path, pool.revision, store.root, endpoint)
    ids: dict[str, str] = {}
    with path.open(encoding="utf-8") as file:
        while line := file.readline(MAX_LINE):
            try:
                entry = json.loads(line)
                ids[str(entry["did"])] = Path(str(entry["img_path"])).stem
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise Unusable(f"{pool.repository}/{pool.path}: line {len(ids) + 1}") from error
    return ids


def _take(path: Path, mirror: Mirror, ids: dict[str, str] | None, store: ImageStore) -> list[str]:
    """Take the missing images of one file; all wanted ones that it holds."""
    wanted = set(store.wanted)
    askable = set(store.askable(mirror.repository))
    holds: dict[str, None] = {}
    columns = [mirror.id_column, mirror.image_column]
    try:
        with pq.ParquetFile(path) as file:
            if absent := set(columns) - set(file.schema_arrow.names):
                # A mirror also has files of queries and relevance, with other columns.
                if "corpus" in path.name:
                    raise Unusable(f"{path.name} has no column {min(absent)!r}")
                return []
            batches = file.iter_batches(BATCH, columns=columns)
            with tqdm(total=file.metadata.num_rows, desc=mirror.repository, unit="row") as bar:
                for batch in batches:
                    for row in batch.to_pylist():
                        name = str(row[mirror.id_column])
                        image_id = name if ids is None else ids.get(name)
                        if image_id not in wanted:
                            continue
                        holds[image_id] = None
                        content = (row[mirror.image_column] or {}).get("bytes")
                        if image_id in askable:
                            store.take(image_id, content or b"", mirror.repository)
                            askable.discard(image_id)
                    bar.update(batch.num_rows)
    except pa.ArrowException as error:
        path.unlink()
        raise Unusable(f"{path.name} is not a whole Parquet file; it is fetched again") from error
    return list(holds)
