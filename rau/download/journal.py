"""Where images came from and what not to request again: an append-only file of JSON lines.

A line is written before its image is put in place, and a torn last line (the process was killed) is
skipped: the journal is correct for every image in the store, whenever the process stops.
"""

import json
import os
import threading
from pathlib import Path


class Journal:
    """The journal of one store.

    Attributes:
        origin: source by image id.
        refused: reason by (image id, source), for images that a source will never give.
        finished: image ids by (source, file), for files that were read to their end.
    """

    def __init__(self, path: Path) -> None:
        self.origin: dict[str, str] = {}
        self.refused: dict[tuple[str, str], str] = {}
        self.finished: dict[tuple[str, str], frozenset[str]] = {}
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = self._read(path) if path.exists() else False
        self._file = path.open("a", encoding="utf-8")
        if torn:
            self._file.write("\n")

    def _read(self, path: Path) -> bool:
        """Read the entries; returns whether the last line is incomplete."""
        line = ""
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    self._take(json.loads(line))
                except (ValueError, KeyError, TypeError, RecursionError):
                    continue  # The process was killed: the image or file is requested again.
        return bool(line) and not line.endswith("\n")

    def _take(self, entry: dict[str, str]) -> None:
        if "refused" in entry:
            self.refused[entry["image"], entry["source"]] = entry["refused"]
        elif "image" in entry:
            self.origin[entry["image"]] = entry["source"]
        else:
            self.finished[entry["source"], entry["file"]] = frozenset(entry["holds"])

    def _add(self, entry: dict[str, object]) -> None:
        with self._lock:
            self._take(entry)  # type: ignore[arg-type]
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()

    def record(self, image_id: str, source: str) -> None:
        """Record an image that is about to be added."""
        self._add({"image": image_id, "source": source})

    def refuse(self, image_id: str, source: str, reason: str) -> None:
        """Record that a source will never have this image."""
        self._add({"image": image_id, "source": source, "refused": reason})

    def finish(self, source: str, file: str, holds: list[str]) -> None:
        """Record that a file was read to its end, with the images in it."""
        self._add({"source": source, "file": file, "holds": holds})

    def close(self) -> None:
        """Write what is buffered to the disk."""
        os.fsync(self._file.fileno())
        self._file.close()
