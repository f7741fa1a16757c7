"""Answers of users, kept as rows of CSV files that a data set reads from its folder `feedback/`.

A process writes a file a day, whose name begins with the time of its first row: in the order of
their names the last word on a pair comes last. Of two processes that write at the same time this
holds from one day to the next alone: within a day the word of the one that began later counts. A
row is one write to the end of the file, so that
threads do not mix theirs, and is on the disk when the user is told so.
"""

import csv
import io
import os
import re
import secrets
import threading
from datetime import UTC, datetime
from pathlib import Path

from rau.datasets.catalogue.people import FEEDBACK
from rau.datasets.catalogue.products import NAMES
from rau.datasets.catalogue.sheet import UNKNOWN
from rau.errors import UserError
from rau.files import as_text, write_bytes

COLUMNS = ("reference", "target", "caption", "accepted")
# Cells that begin so are formulas to spreadsheets. After a no-break space they are text to them,
# and the reader of a data set cuts blanks off.
FORMULA, TEXT = re.compile(r"\s*[=+\-@|%]"), "\u00a0"


def read_by(folder: Path, source: str) -> str:
    """Who will read the answers of a folder, in a line; a warning where nobody will.

    Args:
        source: what the index is of, as its manifest says: the answers name its pictures.
    """
    root = folder.absolute().parent
    tables = [name for name in NAMES if (root / name).is_file()]
    if folder.absolute().name != FEEDBACK or not tables:
        return (
            f"warning: no data set reads answers from {folder}: keep them in "
            f"<dataset.root>/{FEEDBACK}, beside {NAMES[0]}, to learn from them"
        )
    if source != f"folder {as_text(root.name)}" and not source.startswith("data set catalogue@"):
        return (
            f"warning: the answers in {folder} will not be read: they name pictures of {source}, "
            f"not of {tables[0]} there"
        )
    return f"answers are kept in {folder}; training reads them with dataset.root={root}"


class NotKept(Exception):
    """An answer could not be written; the folder is as it was."""


class Feedback:
    """A folder that answers are added to, by any number of threads."""

    def __init__(self, folder: Path) -> None:
        """Use a folder, made where it is missing.

        Raises:
            UserError: when it cannot be written.
        """
        self._folder = folder
        self._path: Path | None = None
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make {folder}: {error.strerror}; name another") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UserError(f"{folder} cannot be written; change its permissions or name another")

    def add(self, reference: str, target: str, caption: str, accepted: bool) -> None:
        """Keep one answer; the ids are of the index.

        Raises:
            UserError: when it says nothing that could be learned from.
            NotKept: when the disk is full or the folder has become read-only.
        """
        said = " ".join(_printable(caption).split())
        if said.lower() in UNKNOWN or not re.search(r"[^\W_]", said):
            raise UserError("there are no words to learn from: say what should be different")
        if reference == target:
            raise UserError("the picture is the reference itself")
        row = _row((_cell(reference), _cell(target), _cell(said), "yes" if accepted else "no"))
        try:
            with self._lock:
                self._write(row, datetime.now(UTC))
        except (UserError, OSError) as error:
            raise NotKept(str(error)) from error

    def _write(self, row: bytes, now: datetime) -> None:
        if self._path and self._path.name.startswith(f"{now:%Y%m%d}") and self._path.exists():
            _append(self._path, row)
            return
        path = self._folder / f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}.csv"
        # A file without rows is never seen.
        write_bytes(path, _row(COLUMNS) + row)
        self._path = path


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def _cell(text: str) -> str:
    return TEXT + text if FORMULA.match(text) else text


def _row(cells: tuple[str, ...]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(cells)
    return buffer.getvalue().encode()


def _append(path: Path, row: bytes) -> None:
    """Write a row to the end of a file, whole or not at all."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        before = os.fstat(handle).st_size
        if os.write(handle, row) < len(row):
            os.ftruncate(handle, before)
            raise OSError("the disk is full")
        os.fsync(handle)
    finally:
        os.close(handle)
