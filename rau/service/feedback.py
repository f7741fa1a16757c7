"""User feedback, stored as CSV rows that a data set reads from its folder `feedback/`.

A process writes one file per day, whose name begins with the time of its first row. If the files
are read in the order of their names, the latest answer on a pair therefore comes last. For two
processes that write at the same time, this is true only across days: within a day, the answer of
the process that started its file later counts. A row is appended in a single write, so that rows
of several threads do not mix, and it is on the disk before the response is sent.
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
from rau.datasets.catalogue.products import NAMES, tables
from rau.datasets.catalogue.sheet import UNKNOWN
from rau.errors import UserError
from rau.evaluation.calibration import DATASET
from rau.files import write_bytes
from rau.search.catalogue import folder_source

COLUMNS = ("reference", "target", "caption", "accepted")
# Spreadsheets interpret cells with this beginning as formulas, but as text after a no-break space.
# The reader of a data set strips white space.
FORMULA, TEXT = re.compile(r"\s*[=+\-@|%]"), "\u00a0"


def read_by(folder: Path, source: str) -> str:
    """Describe in one line which data set reads a feedback folder; a warning if none does.

    Args:
        source: the source of the index in its manifest; feedback refers to its images.
    """
    root = folder.absolute().parent
    found = tables(root)
    if folder.absolute().name != FEEDBACK or not found:
        return (
            f"warning: no data set reads feedback from {folder}; to train on it, store it in "
            f"<dataset.root>/{FEEDBACK}, next to {NAMES[0]}"
        )
    if source != folder_source(root) and not source.startswith(f"{DATASET}catalogue@"):
        return (
            f"warning: the feedback in {folder} cannot be used: the index was built from {source}, "
            f"not from {found[0].relative_to(root)}"
        )
    return f"feedback is stored in {folder}; training reads it with dataset.root={root}"


class NotKept(Exception):
    """An answer could not be written; the folder is unchanged."""


class Feedback:
    """A folder to which any number of threads add answers."""

    def __init__(self, folder: Path) -> None:
        """Use a folder; create it if it does not exist.

        Raises:
            UserError: when it is not writable.
        """
        self._folder = folder
        self._path: Path | None = None
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot create {folder}: {error.strerror}; choose another") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UserError(f"{folder} is not writable; change its permissions or use another")

    def add(self, reference: str, target: str, caption: str, accepted: bool) -> None:
        """Store one answer; the ids are of the index.

        Raises:
            UserError: when the caption has no words, or the target is the reference.
            NotKept: when the disk is full or the folder has become read-only.
        """
        said = " ".join(_printable(caption).split())
        if said.lower() in UNKNOWN or not re.search(r"[^\W_]", said):
            raise UserError("the caption has no words; say what should be different")
        if reference == target:
            raise UserError("the target is the reference itself; choose another image")
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
        # Readers never see a file without rows.
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
    """Append a row to a file, completely or not at all."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        before = os.fstat(handle).st_size
        if os.write(handle, row) < len(row):
            os.ftruncate(handle, before)
            raise OSError("the disk is full")
        os.fsync(handle)
    finally:
        os.close(handle)
