"""Annotation files from their official repositories, each verified by its digest."""

from pathlib import Path

from rau.datasets.registry import Files
from rau.download.http_client import Client, Refused, Unreachable
from rau.errors import UserError
from rau.files import digest_file, read_json, write_json

MAX_BYTES = 256 * 2**20
FIRST_SEEN = ".first_seen.json"


class Unavailable(UserError):
    """No revision has the file with the expected digest."""


def fetch_files(files: Files, root: Path, client: Client) -> None:
    """Fetch every file of `files` without a verified copy under `root`.

    A file without a known digest is trusted on first use: its digest is stored in
    `.first_seen.json` and verified from then on. One that the user placed there is used as it is.

    Raises:
        Unavailable: if no revision has a file with the expected digest.
        UserError: when the list of digests is damaged.
    """
    seen_path = root / FIRST_SEEN
    seen = read_json(seen_path, "list of digests") if seen_path.exists() else {}
    if not isinstance(seen, dict):
        raise UserError(f"{seen_path} is not a list of digests; remove it")
    for path, known in files.digests.items():
        expected = known or seen.get(path)
        target = root / path
        if target.is_file() and expected in (None, digest_file(target)):
            continue
        found = _fetch(files, path, expected, target, client)
        if known is None:
            seen[path] = found
            write_json(seen_path, seen)
        target.with_name(f".{target.name}.part").replace(target)


def _fetch(files: Files, path: str, expected: str | None, target: Path, client: Client) -> str:
    """Fetch one file to its temporary name; returns its digest."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    reasons = []
    for url in files.urls(path):
        for _ in range(2):  # A partial download of an earlier run may be of another file.
            resumed = part.exists()
            try:
                client.fetch(url, part, MAX_BYTES)
            except (Refused, Unreachable) as error:
                reasons.append(str(error))
                break
            found = digest_file(part)
            if expected in (None, found):
                return found
            part.unlink()
            if not resumed:
                reasons.append(f"{url}: SHA-256 {found[:12]}…, not {str(expected)[:12]}…")
                break
    raise Unavailable(
        f"cannot fetch {files.repository}'s {path} ({'; '.join(reasons)}); "
        f"check the network or put the file at {target}"
    )
