"""Images by URL, from tables of image id and address: the last resort, as many links are dead."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rau.download.http_client import Client, Refused, Unreachable
from rau.download.image_store import ImageStore
from rau.pictures import MAX_BYTES
from rau.progress import tqdm

SOURCE = "URL tables"
# Number of consecutive unreachable images after which the network counts as down.
GIVE_UP = 100


def read_tables(paths: Iterable[Path]) -> dict[str, str]:
    """URLs by image id; lines other than an id and a URL are skipped."""
    table: dict[str, str] = {}
    for path in paths:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            words = line.split()
            if len(words) == 2 and words[1].startswith(("http://", "https://")):
                table.setdefault(words[0], words[1])
    return table


def fetch_images(table: Mapping[str, str], store: ImageStore, client: Client) -> str:
    """Fetch the missing images that were not refused before.

    Returns:
        The outcome as text; images that could not be reached are requested by the next run.
    """
    asked = [image_id for image_id in store.askable(SOURCE) if image_id in table]
    came = refused = unreachable = in_a_row = 0
    pool = ThreadPoolExecutor(client.connections)
    try:
        outcomes = {pool.submit(_fetch, i, table[i], store, client) for i in asked}
        for done in tqdm(as_completed(outcomes), total=len(asked), desc=SOURCE, unit="image"):
            try:
                reason = done.result()
            except Unreachable:
                unreachable += 1
                in_a_row += 1
                if in_a_row >= GIVE_UP:
                    return f"{came:,} images, then no server answered; check the network"
                continue
            in_a_row = 0
            came += reason is None
            refused += reason is not None
    finally:
        pool.shutdown(cancel_futures=True)
    return f"{came:,} images; {refused:,} dead, {unreachable:,} unreachable"


def _fetch(image_id: str, url: str, store: ImageStore, client: Client) -> str | None:
    """Fetch and add one image; returns the reason if the server has no valid one."""
    part = store.part(image_id)
    resumed = part.exists()
    try:
        client.fetch(url, part, MAX_BYTES)
        if resumed and not store.is_image(part.read_bytes()):
            # Two halves of different files: fetch it again.
            part.unlink()
            client.fetch(url, part, MAX_BYTES)
    except Refused as error:
        part.unlink(missing_ok=True)
        store.journal.refuse(image_id, SOURCE, str(error))
        return str(error)
    reason = store.take(image_id, part.read_bytes(), SOURCE)
    part.unlink()
    return reason
