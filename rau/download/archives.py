"""Files and images from zip archives, whose own paths are only looked up and never followed."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from rau.datasets.registry import Archive
from rau.download.annotation_files import MAX_BYTES as MAX_ANNOTATIONS
from rau.download.annotation_files import Unavailable
from rau.download.http_client import Client, Refused, Unreachable
from rau.download.image_store import ImageStore
from rau.files import write_bytes
from rau.pictures import MAX_BYTES as MAX_PICTURE
from rau.progress import tqdm

FOLDER = ".archives"
MAX_ARCHIVE = 32 * 2**30
# Bytes of an archive's list of members, which is read as a whole: about a million members.
MAX_DIRECTORY = 128 * 2**20
# The last record of an archive, and the longest comment after it.
END, END_64, COMMENT = b"PK\x05\x06", b"PK\x06\x06", 2**16
DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, ValueError)
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Damaged(Exception):
    """An archive, or a member of one, that cannot be read."""


def fetch_files(archive: Archive, root: Path, client: Client) -> None:
    """Fetch the annotation files of an archive that are not under `root` yet.

    Raises:
        Unavailable: if the archive cannot be fetched, is damaged or does not contain a file.
    """
    wanted = {member: root / path for member, path in archive.files.items()}
    if all(target.is_file() for target in wanted.values()):
        return
    try:
        part = _fetch(archive, root, client, MAX_ANNOTATIONS)
        with _opened(part) as file:
            for member, target in wanted.items():
                found = file.getinfo(member)
                if unfit := _unfit(found, MAX_ANNOTATIONS):
                    raise Damaged(f"{member}: {unfit}")
                write_bytes(target, _read(file, found))
    except (Refused, Unreachable, Damaged, KeyError, OSError) as error:
        places = " and ".join(map(str, wanted.values()))
        raise Unavailable(
            f"cannot fetch {places} from {archive.url} ({error}); check the network, or place the "
            "files there"
        ) from error
    part.unlink()


def fetch_images(archive: Archive, store: ImageStore, client: Client) -> str:
    """Add missing images from an archive; one that was read to its end is not fetched again.

    The archive is removed after reading. An image is identified only by the name of its member.

    Returns:
        The outcome as text.
    """
    if store.exhausted(archive.url):
        return "0 images"
    before = len(store.missing)
    try:
        part = _fetch(archive, store.root, client, MAX_ARCHIVE)
        with _opened(part) as file:
            damaged = _take(file, archive.url, store)
    except (Refused, Unreachable, Damaged, OSError) as error:
        return f"not used: {error}"
    part.unlink()
    note = f", {damaged:,} damaged; the next run fetches the archive again" if damaged else ""
    return f"{before - len(store.missing):,} images{note}"


def _take(file: zipfile.ZipFile, source: str, store: ImageStore) -> int:
    """Add the missing images; returns the number of those that could not be read."""
    wanted, askable = set(store.wanted), set(store.askable(source))
    holds: dict[str, None] = {}
    damaged = 0
    for member in tqdm(file.infolist(), desc=PurePosixPath(source).name, unit="file"):
        image_id = PurePosixPath(member.filename).stem
        if member.is_dir() or image_id not in wanted:
            continue
        holds[image_id] = None
        if image_id not in askable:
            continue
        if unfit := _unfit(member, MAX_PICTURE):
            store.journal.refuse(image_id, source, unfit)
            continue
        try:
            store.take(image_id, _read(file, member), source)
            askable.discard(image_id)
        except Damaged:
            damaged += 1
    if not damaged:
        store.journal.finish(source, "", list(holds))
    return damaged


def _fetch(archive: Archive, root: Path, client: Client, limit: int) -> Path:
    """Fetch an archive, resuming the download of an earlier run."""
    part = root / FOLDER / PurePosixPath(archive.url).name
    part.parent.mkdir(parents=True, exist_ok=True)
    client.fetch(archive.url, part, limit)
    return part


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive; an invalid one is removed, so that it is fetched again.

    Raises:
        Damaged: if it is invalid, or its list of members is too large.
    """
    try:
        _check_directory(path)
        file = zipfile.ZipFile(path)
    except DAMAGED as error:
        path.unlink()
        raise Damaged(f"{path.name} is not a complete zip file; run again to fetch it") from error
    with file:
        yield file


def _check_directory(path: Path) -> None:
    """Check the size of an archive's list of members, which is read to memory.

    Raises:
        ValueError: if it is too large, or there is none.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - COMMENT - 128))
        tail = file.read()
    end, wide = tail.rfind(END), tail.rfind(END_64)
    size = struct.unpack_from("<I", tail, end + 12)[0] if end >= 0 else MAX_DIRECTORY
    if wide >= 0:
        size = struct.unpack_from("<Q", tail, wide + 40)[0]
    if size >= MAX_DIRECTORY:
        raise ValueError(f"its list of members has {size} bytes")


def _unfit(member: zipfile.ZipInfo, limit: int) -> str | None:
    """Why a member is not read; None if it is."""
    if member.file_size > limit:
        return f"larger than {limit} bytes"
    if member.flag_bits & 1 or member.compress_type not in METHODS:
        return "encrypted, or of an unsupported compression"
    return None


def _read(file: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The content of a member, at most as many bytes as it declares.

    Raises:
        Damaged: if it is damaged.
    """
    try:
        with file.open(member) as stream:
            # Without a size, zipfile decompresses up to 2 GiB before it cuts off what is too much.
            return stream.read(member.file_size)
    except DAMAGED as error:
        raise Damaged(f"{member.filename!r}: {error}") from error
