"""Adding images to a store: each is inspected, recorded in the journal and renamed into place."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rau.datasets.image_files import MAX_BYTES, ImageInfo, inspect
from rau.datasets.manifest import check_image_id
from rau.download.journal import Journal
from rau.errors import UserError


class ImageStore:
    """The missing images of a store, and the only way to add one.

    Args:
        root: the store's folder.
        wanted: image ids, in order.
        places: where under `root` the file of an id may lie, most likely first.
        placeholders: whether pictures of dead products are no images.
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
        self.missing = {i: None for i in self.wanted if not self._present(i)}

    def _present(self, image_id: str) -> bool:
        return any((self.root / place).is_file() for place in self._places(image_id))

    def askable(self, source: str) -> list[str]:
        """Missing images that this source has not refused."""
        return [i for i in self.missing if (i, source) not in self.journal.refused]

    def part(self, image_id: str) -> Path:
        """Where an image is gathered before it is taken."""
        return self._incoming / f"{image_id}.part"

    def take(self, image_id: str, content: bytes, source: str) -> str | None:
        """Add an image; returns why it is not valid, which the journal keeps, or None."""
        picture, reason = self._examine(content)
        if reason is not None:
            self.journal.refuse(image_id, source, reason)
            return reason
        with self._writing(image_id) as written:
            written.write_bytes(content)
            self._place(image_id, written, picture, source)
        return None

    def link(self, image_id: str, path: Path, source: str) -> bool:
        """Link to a file; returns False if it is not a valid image or is a placeholder."""
        picture, reason = self._examine(path.read_bytes() if path.stat().st_size else b"")
        if reason is not None:
            return False
        with self._writing(image_id) as written:
            written.unlink(missing_ok=True)
            written.symlink_to(path.resolve())
            self._place(image_id, written, picture, source)
        return True

    @contextmanager
    def _writing(self, image_id: str) -> Iterator[Path]:
        written = self._incoming / f"{image_id}.new"
        try:
            yield written
        except OSError as error:
            raise UserError(
                f"cannot write {image_id} to {self.root}: {error.strerror}; free or change the disk"
            ) from error

    def is_image(self, content: bytes) -> bool:
        """Whether the bytes would be taken."""
        return self._examine(content)[1] is None

    def _examine(self, content: bytes) -> tuple[ImageInfo, str | None]:
        if len(content) > MAX_BYTES:
            return ImageInfo("corrupt", ""), f"larger than {MAX_BYTES} bytes"
        picture = inspect(content, self._placeholders)
        reasons = {"ok": None, "missing": "placeholder", "corrupt": "no whole image"}
        return picture, reasons[picture.status]

    def _place(self, image_id: str, written: Path, picture: ImageInfo, source: str) -> None:
        places = self._places(image_id)
        suffix = ".png" if picture.format == "PNG" else ".jpg"
        place = next((p for p in places[:2] if p.endswith(suffix)), places[0])
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        self.journal.comes(image_id, source)
        written.replace(path)
        with self._lock:
            self.missing.pop(image_id, None)
