"""Fetching a data set, as completely as its sources allow."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from huggingface_hub import HfApi

from rau.datasets.manifest import COMPLETED
from rau.datasets.readers import reader
from rau.datasets.registry import DatasetCard
from rau.download import annotation_files, archives, huggingface, local_folder, url_tables
from rau.download.http_client import Client
from rau.download.image_store import ImageStore
from rau.download.journal import Journal
from rau.errors import UserError

JOURNAL = ".journal.jsonl"


def acquire(
    card: DatasetCard,
    root: Path,
    client: Client,
    hub: HfApi,
    images: Path | None = None,
    accept_terms: bool = False,
) -> Mapping[str, str]:
    """Fetch annotations, then images, from one source after another until none is missing.

    It can be stopped and run again: images in the store and images that a source has refused are
    not requested again. A second process waits for the first.

    Args:
        images: a folder of images that the user already has.
        accept_terms: the user has agreed to the images' terms of use.

    Returns:
        The source of each image, by id.

    Raises:
        UserError: when annotations cannot be fetched, or the images' terms are not agreed to.
    """
    with _alone(root, card.name):
        annotation_files.fetch_files(card.annotations, root, client)
        for archive in card.archives:
            archives.fetch_files(archive, root, client)
        found = reader(card.name).read_annotations(root)
        _check_count(card, len(found.image_ids), root)
        with closing(Journal(root / JOURNAL)) as journal:
            store = ImageStore(root, found.image_ids, found.places, card.placeholders, journal)
            if store.missing and images is not None:
                print(f"{COMPLETED}: {local_folder.link_images(images, store)}")
            if store.missing and _may_fetch(card, store, accept_terms):
                _fetch_images(card, store, client, hub)
            return dict(journal.origin)


@contextmanager
def _alone(root: Path, name: str) -> Iterator[None]:
    """Lock a store, waiting for a process that holds the lock."""
    lock = FileLock(root / ".lock")
    try:
        root.mkdir(parents=True, exist_ok=True)
        held = lock.acquire(timeout=0)
    except Timeout:
        print(f"another process fetches {name}; waiting for it")
        held = lock.acquire()
    except OSError as error:
        raise UserError(
            f"cannot write {root}: {error.strerror}; free space or use another disk"
        ) from error
    with held:
        yield


def _may_fetch(card: DatasetCard, store: ImageStore, accept_terms: bool) -> bool:
    """Whether images may be fetched; not agreeing to the terms is an error in an empty store."""
    if card.consent is None or accept_terms:
        return True
    if len(store.missing) < len(store.wanted):
        return False  # The user's images, with gaps that coverage reports.
    raise UserError(
        f"{card.name}'s images have terms of use: agree to them at {card.consent}, then "
        "set dataset.images=<folder of the images> or, to fetch them from mirrors, "
        "dataset.accept_terms=true"
    )


def _check_count(card: DatasetCard, listed: int, root: Path) -> None:
    """Check the number of images in a list from an archive, for which no digest is known.

    Raises:
        UserError: if it is not the data set's.
    """
    lists = [root / path for archive in card.archives for path in archive.files.values()]
    if lists and listed != card.images:
        raise UserError(
            f"{lists[0]} lists {listed:,} images, {card.name} has {card.images:,}; remove it and "
            "run again"
        )


def _fetch_images(card: DatasetCard, store: ImageStore, client: Client, hub: HfApi) -> None:
    for archive in card.archives:
        if not archive.files:
            print(f"{archive.url}: {archives.fetch_images(archive, store, client)}")
    for mirror in card.mirrors:
        if not store.askable(mirror.repository):
            continue
        try:
            outcome = huggingface.fetch_images(mirror, store, hub)
        except huggingface.Unusable as error:
            outcome = f"not used: {error}"
        print(f"{mirror.repository}: {outcome}")
    if card.url_tables is not None and store.askable(url_tables.SOURCE):
        try:
            annotation_files.fetch_files(card.url_tables, store.root, client)
            table = url_tables.read_tables(store.root / path for path in card.url_tables.digests)
            outcome = url_tables.fetch_images(table, store, client)
        except annotation_files.Unavailable as error:
            outcome = f"not used: {error}"
        print(f"{url_tables.SOURCE}: {outcome}")
