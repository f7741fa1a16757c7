"""Adding images to a store: each is inspected, recorded in the journal and renamed into place."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from rau.datasets.image_files import inspect
from rau.datasets.locate import Located
from rau.datasets.manifest import check_image_id
from rau.download.journal import Journal
from rau.errors import UserError
from rau.files import read_at_most
from rau.pictures import MAX_BYTES


class ImageStore:
    """The missing images of a store, and the only way to add one.

    Args:
        root: the store's folder.
        wanted: image ids, in order.
        places: paths under `root`, without suffix, where the file of an id may be; new files are
            written to the first one.
        placeholders: whether known placeholders are refused.
    """

    def __init__(
        self,
        root: Path,
        wanted: Iterable[str],
        places: Callable[[str], list[str]],
        placeholders: bool,
        journal: Journal,
    ) -> None:
        self.root = root
        self.journal = journal
        self._places = places
        self._placeholders = placeholders
        self._lock = threading.Lock()
        self._incoming = root / ".incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        self.wanted = [check_image_id(image_id) for image_id in wanted]
        found = Located(root, self.wanted, places)
        self.missing = {image_id: None for image_id, path in found.items() if path is None}

    def askable(self, source: str) -> list[str]:
        """Missing images that this source has not refused."""
        return [i for i in self.missing if (i, source) not in self.journal.refused]

    def exhausted(self, source: str, file: str = "") -> bool:
        """Whether a source's file has no further images: none is to be requested from it, or the
        file was read to its end before and contains none of the missing ones."""
        askable = self.askable(source)
        holds = self.journal.finished.get((source, file))
        return not askable or (holds is not None and holds.isdisjoint(askable))

    def part(self, image_id: str) -> Path:
        """Path of an incomplete download."""
        return self._incoming / f"{image_id}.part"

    def take(self, image_id: str, content: bytes, source: str) -> str | None:
        """Add an image; returns why it is invalid, which the journal records, or None."""
        reason = self._add(image_id, content, source, lambda new: new.write_bytes(content))
        if reason is not None:
            self.journal.refuse(image_id, source, reason)
        return reason

    def link(self, image_id: str, path: Path, source: str) -> bool:
        """Link to a file; returns False if it is not a valid image or is a placeholder."""
        content = read_at_most(path, MAX_BYTES)
        if content is None:
            return False
        return self._add(image_id, content, source, lambda n: n.symlink_to(path.resolve())) is None

    def is_image(self, content: bytes) -> bool:
        """Whether `take` would accept the bytes."""
        return inspect(content, self._placeholders).status == "ok"

    def _add(
        self, image_id: str, content: bytes, source: str, write: Callable[[Path], object]
    ) -> str | None:
        """Add the file that `write` creates; returns why its content is invalid, or None."""
        info = inspect(content, self._placeholders)
        if info.reason is not None:
            return info.reason
        new = self._incoming / f"{image_id}.new"
        suffix = ".png" if info.format == "PNG" else ".jpg"
        path = self.root / f"{self._places(image_id)[0]}{suffix}"
        try:
            # A killed run may have left a link here; writing through it would change a user's file.
            new.unlink(missing_ok=True)
            write(new)
            path.parent.mkdir(parents=True, exist_ok=True)
            self.journal.record(image_id, source)
            new.replace(path)
        except OSError as error:
            raise UserError(
                f"cannot write {image_id} to {self.root}: {error.strerror}; free space or use "
                "another disk"
            ) from error
        with self._lock:
            self.missing.pop(image_id, None)
        return None
