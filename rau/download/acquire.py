"""From a record to a store that is as whole as its sources allow."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from rau.datasets.annotations import Annotations
from rau.datasets.readers import Reader
from rau.datasets.registry import Record
from rau.download import annotation_files, huggingface, local_folder, url_tables
from rau.download.http_client import Client
from rau.download.image_store import Intake
from rau.download.journal import Journal
from rau.errors import UserError

JOURNAL = ".journal.jsonl"


@dataclass(frozen=True)
class Choices:
    """What the user lets us do.

    Attributes:
        images: a folder of images that the user has already.
        accept_terms: the user has agreed to the images' terms of use.
        connections: the most connections at once.
        endpoint: another hub than huggingface.co.
    """

    images: Path | None = None
    accept_terms: bool = False
    connections: int = 16
    endpoint: str | None = None


def acquire(
    record: Record, reader: Reader, root: Path, choices: Choices, client: Client
) -> Mapping[str, str]:
    """Fetch annotations, then images, source after source until the set is whole.

    Safe to stop and to run again: what is there is not fetched again, nor is what a source has
    refused. A second process waits for the first.

    Returns:
        The source of each image, by id.

    Raises:
        UserError: when annotations cannot be had, or the images' terms are not agreed to.
    """
    with _alone(root, record.name):
        annotation_files.fetch_files(record.annotations, root, client)
        found = reader.read_annotations(root)
        with Journal(root / JOURNAL) as journal:
            intake = Intake(root, found.image_ids, found.places, record.placeholders, journal)
            _fill(record, found, intake, choices, client)
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
    record: Record, found: Annotations, intake: Intake, choices: Choices, client: Client
) -> None:
    if intake.missing and choices.images is not None:
        print(f"{local_folder.SOURCE}: {local_folder.link_images(choices.images, intake)}")
    if not intake.missing:
        return
    if record.consent is not None and not choices.accept_terms:
        have = len(found.image_ids) - len(intake.missing)
        if have:
            return  # The user's own folder, with its gaps: coverage speaks of them.
        raise UserError(
            f"{record.name}'s images have terms of use: agree to them at {record.consent}, then "
            "set dataset.images=<folder of the images> or, to fetch them from mirrors, "
            "dataset.accept_terms=true"
        )
    for mirror in record.mirrors:
        if not intake.askable(mirror.repository):
            continue
        try:
            outcome = huggingface.fetch_images(mirror, intake, choices.endpoint)
        except huggingface.Unusable as error:
            outcome = f"not used: {error}"
        print(f"{mirror.repository}: {outcome}")
    if record.url_tables is not None and intake.askable(url_tables.SOURCE):
        try:
            annotation_files.fetch_files(record.url_tables, intake.root, client)
            table = url_tables.read_tables(intake.root / path for path in record.url_tables.digests)
            outcome = url_tables.fetch_images(table, intake, client, choices.connections)
        except annotation_files.Unavailable as error:
            outcome = f"not used: {error}"
        print(f"{url_tables.SOURCE}: {outcome}")
