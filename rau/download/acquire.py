"""Fetch a data set: from its card to a store as complete as the sources allow."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from rau.datasets.annotations import Annotations
from rau.datasets.readers import Reader
from rau.datasets.registry import DatasetCard
from rau.download import annotation_files, huggingface, local_folder, url_tables
from rau.download.http_client import Client
from rau.download.image_store import ImageStore
from rau.download.journal import Journal
from rau.errors import UserError

JOURNAL = ".journal.jsonl"


@dataclass(frozen=True)
class DownloadOptions:
    """What the user allows.

    Attributes:
        images: a folder of images that the user already has.
        accept_terms: the user has agreed to the images' terms of use.
        connections: the most connections at once.
        endpoint: another hub than huggingface.co.
    """

    images: Path | None = None
    accept_terms: bool = False
    connections: int = 16
    endpoint: str | None = None


def acquire(
    card: DatasetCard, reader: Reader, root: Path, options: DownloadOptions, client: Client
) -> Mapping[str, str]:
    """Fetch annotations, then images, source after source until the set is whole.

    Can be stopped and run again: neither images in the store nor images that a source has
    refused are requested again. A second process waits for the first.

    Returns:
        The source of each image, by id.

    Raises:
        UserError: when annotations cannot be had, or the images' terms are not agreed to.
    """
    with _alone(root, card.name):
        annotation_files.fetch_files(card.annotations, root, client)
        found = reader.read_annotations(root)
        with Journal(root / JOURNAL) as journal:
            store = ImageStore(root, found.image_ids, found.places, card.placeholders, journal)
            _fill(card, found, store, options, client)
            return dict(journal.origin)


@contextmanager
def _alone(root: Path, name: str) -> Iterator[None]:
    """Keep other processes out of a store, or wait for the one that is in it."""
    lock = FileLock(root / ".lock")
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        print(f"another process fetches {name}; waiting for it")
        lock.acquire()
    except OSError as error:
        raise UserError(
            f"cannot write {root}: {error.strerror}; free or change the disk"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _fill(
    card: DatasetCard,
    found: Annotations,
    store: ImageStore,
    options: DownloadOptions,
    client: Client,
) -> None:
    if store.missing and options.images is not None:
        print(f"{local_folder.SOURCE}: {local_folder.link_images(options.images, store)}")
    if not store.missing:
        return
    if card.consent is not None and not options.accept_terms:
        have = len(found.image_ids) - len(store.missing)
        if have:
            return  # The user's own folder, with its gaps: coverage speaks of them.
        raise UserError(
            f"{card.name}'s images have terms of use: agree to them at {card.consent}, then "
            "set dataset.images=<folder of the images> or, to fetch them from mirrors, "
            "dataset.accept_terms=true"
        )
    for mirror in card.mirrors:
        if not store.askable(mirror.repository):
            continue
        try:
            outcome = huggingface.fetch_images(mirror, store, options.endpoint)
        except huggingface.Unusable as error:
            outcome = f"not used: {error}"
        print(f"{mirror.repository}: {outcome}")
    if card.url_tables is not None and store.askable(url_tables.SOURCE):
        try:
            annotation_files.fetch_files(card.url_tables, store.root, client)
            table = url_tables.read_tables(store.root / path for path in card.url_tables.digests)
            outcome = url_tables.fetch_images(table, store, client, options.connections)
        except annotation_files.Unavailable as error:
            outcome = f"not used: {error}"
        print(f"{url_tables.SOURCE}: {outcome}")
