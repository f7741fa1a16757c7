"""Images that a build has encoded but not committed yet, from which a stopped build resumes.

A part is an Arrow file with raw features and thumbnails by the SHA-256 of an image's file. Its
name contains its number and its own SHA-256; damaged parts are removed, and their images are
encoded again.
"""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import feather

from rau.digests import Lookup, digests
from rau.features.table import to_array, to_matrix
from rau.files import abandoned, digest_file, shown, write_bytes
from rau.progress import tqdm
from rau.search.engines.engine import Vectors

ROWS = 2048


class Parts:
    """The parts of one encoder, in a folder named after the key of its features."""

    def __init__(self, folder: Path, features: str) -> None:
        """Open the parts, and remove those of other encoders."""
        self.folder = folder / features
        for other in shown(folder, "*"):
            if other != self.folder:
                shutil.rmtree(other)
        self._number = 0
        self._digests: list[str] = []
        self._features: list[Vectors] = []
        self._thumbnails: list[bytes] = []
        known = [digests(())]
        for old in abandoned(self.folder.glob(".*.tmp")):
            old.unlink(missing_ok=True)
        for path in shown(self.folder, "*.arrow"):
            number, digest = path.stem.split("-")
            self._number = int(number) + 1
            if digest != digest_file(path):
                tqdm.write(f"{path} is damaged and was removed; its images are encoded again")
                path.unlink()
                continue
            known.append(
                digests(feather.read_table(path, columns=["sha256"])["sha256"].to_pylist())
            )
        # As they were opened.
        self.known = Lookup(np.concatenate(known))

    def add(self, digests: Sequence[str], features: Vectors, thumbnails: Sequence[bytes]) -> None:
        """Add N images: their digests, raw features (N, d_image) and thumbnails."""
        self._digests += digests
        self._features.append(features)
        self._thumbnails += thumbnails
        if len(self._digests) >= ROWS:
            self.flush()

    def flush(self) -> None:
        """Write the images that are not written yet."""
        if not self._digests:
            return
        columns = {
            "sha256": pa.array(self._digests, pa.string()),
            "feature": to_array(np.concatenate(self._features)),
            "thumbnail": pa.array(self._thumbnails, pa.binary()),
        }
        content = pa.BufferOutputStream()
        feather.write_feather(pa.table(columns), content, compression="uncompressed")
        data = content.getvalue()
        name = f"{self._number:08}-{hashlib.sha256(data).hexdigest()}.arrow"
        write_bytes(self.folder / name, data, tidy=False)
        self._number += 1
        self._digests, self._features, self._thumbnails = [], [], []

    def __iter__(self) -> Iterator[tuple[list[str], Vectors, list[bytes]]]:
        """Iterate over the parts: digests, features and thumbnails of each."""
        for path in shown(self.folder, "*.arrow"):
            table = feather.read_table(path, memory_map=True)
            features = to_matrix(table["feature"])
            yield table["sha256"].to_pylist(), features, table["thumbnail"].to_pylist()

    def clear(self) -> None:
        """Remove all parts, after they are committed."""
        shutil.rmtree(self.folder, ignore_errors=True)
