"""Feature caches: every image and every distinct text encoded once, in resumable parts.

Parts are keyed by what was encoded (an image's SHA-256, a text itself) and lie in a folder named
by the key of the encoder's tower and its compute dtype: towers never share parts, encoders that
share a tower share its parts, and more images only add some.
A part's name holds its SHA-256: one that was damaged is removed, and its rows are encoded again.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import feather

from rau.datasets.captions import asked_texts
from rau.encoders.encoder import Encoder
from rau.errors import UserError
from rau.features.extraction import (
    Encoded,
    Item,
    Kind,
    Pair,
    encode_images,
    encode_pairs,
    encode_texts,
)
from rau.features.table import GROUP_ROWS, PAIR, SHARED, Matrix, to_array, to_matrix, write_features
from rau.files import digest_file, write_bytes
from rau.progress import tqdm
from rau.schemas import CUT_TEXTS, QueryRow

PART_ROWS = 2048
# A large model may take longer for so many rows than one likes to lose.
PART_SECONDS = 300
Dtype = Literal["float16", "float32"]


def image_items(manifest: pa.Table, store: Path) -> list[Item]:
    """The whole images of a manifest, in its order."""
    return [
        Item(row["image_id"], row["sha256"], store / row["path"])
        for row in manifest.to_pylist()
        if row["status"] == "ok"
    ]


def val_pairs(queries: Iterable[QueryRow], images: Sequence[Item]) -> list[Pair]:
    """Every pair of reference and text that a protocol may ask for; all are of val's queries."""
    by_name = {item.name: item for item in images}
    found = {
        Pair(by_name[query["reference_id"]], text)
        for query in queries
        if query["split"] == "val" and query["reference_id"] in by_name
        for text in asked_texts(query["captions"], query.get("concept"))
    }
    return sorted(found, key=lambda pair: (pair.image.name, pair.text))


class Cache:
    """Encodes what its folder of parts does not hold yet, then merges parts into one table."""

    def __init__(self, folder: Path, encoder: Encoder, dtype: Dtype) -> None:
        self.encoder = encoder
        self.dtype = np.dtype(dtype)
        self.compute_dtype = str(encoder.dtype).removeprefix("torch.")
        keys = {"images": encoder.image_key, "texts": encoder.text_key, "pairs": encoder.key}
        self.folders = {
            kind: folder / f"{key}-{self.compute_dtype}-{dtype}" for kind, key in keys.items()
        }

    def encode_images(self, path: Path, items: Sequence[Item], batch: int, workers: int) -> None:
        """Write features (one row per image) to `path`."""
        self._encode("images", items, partial(encode_images, batch=batch, workers=workers))
        self._merge("images", "image_id", path, items, self.metadata())

    def encode_texts(
        self, path: Path, texts: Sequence[str], batch: int, workers: int
    ) -> dict[str, str]:
        """Write features (one row per distinct text) to `path`; returns the table's metadata."""
        items = [Item(text, text, text) for text in texts]
        self._encode("texts", items, partial(encode_texts, batch=batch, workers=workers))
        cut = self.encoder.count_cut(texts)
        about = {CUT_TEXTS: f"{cut:,} of {len(texts):,}"} if cut else {}
        self._merge("texts", "text", path, items, self.metadata() | about)
        return self.metadata() | about

    def encode_pairs(self, path: Path, pairs: Sequence[Pair], batch: int, workers: int) -> None:
        """Write features (one row per pair) to `path`, of an encoder that composes."""
        self._encode("pairs", pairs, partial(encode_pairs, batch=batch, workers=workers))
        self._merge("pairs", PAIR, path, pairs, self.metadata())

    def _encode(
        self,
        kind: str,
        items: Sequence[Kind],
        encode: Callable[[Encoder, Sequence[Kind]], Encoded[Kind]],
    ) -> None:
        done = {key for _, keys in self._parts(kind) for key in keys}
        missing = list({item.key: item for item in items if item.key not in done}.values())
        keys: list[str] = []
        rows: list[Matrix] = []
        since = time.monotonic()
        with (
            tqdm(
                total=len(items),
                initial=len(items) - len(missing),
                desc=f"encode {kind}",
                unit=kind[:-1],
            ) as bar,
            closing(encode(self.encoder, missing)) as batches,
        ):
            for chunk, features in batches:
                if not np.abs(features).max() <= np.finfo(self.dtype).max:
                    raise UserError(f"the encoder gave a feature that {self.dtype} cannot hold")
                keys += [item.key for item in chunk]
                rows.append(features.astype(self.dtype))
                bar.update(len(chunk))
                if len(keys) >= PART_ROWS or time.monotonic() - since > PART_SECONDS:
                    self._write_part(kind, keys, rows)
                    keys, rows, since = [], [], time.monotonic()
            if keys:
                self._write_part(kind, keys, rows)

    def _write_part(self, kind: str, keys: list[str], rows: list[Matrix]) -> None:
        table = pa.table({"key": keys, "feature": to_array(np.concatenate(rows))})
        content = pa.BufferOutputStream()
        feather.write_feather(table, content, compression="uncompressed")
        data = content.getvalue()
        write_bytes(self.folders[kind] / f"{kind}-{hashlib.sha256(data).hexdigest()}.arrow", data)

    def _parts(self, kind: str) -> Iterator[tuple[Path, list[str]]]:
        """The whole parts and the keys of their rows."""
        for path in sorted(self.folders[kind].glob(f"{kind}-*.arrow")):
            try:
                whole = path.stem == f"{kind}-{digest_file(path)}"
            except FileNotFoundError:
                continue  # Another process removed it.
            if whole:
                yield path, feather.read_table(path, columns=["key"])["key"].to_pylist()
            else:
                tqdm.write(f"{path} is damaged: removed, its rows are encoded again")
                path.unlink(missing_ok=True)

    def _merge(
        self,
        kind: str,
        column: str,
        path: Path,
        items: Sequence[Kind],
        metadata: dict[str, str],
    ) -> None:
        """Gather the parts in the items' order, in bounded memory."""
        if not items:
            raise UserError(f"there are no {kind} to encode; check the data set's tables")
        paths: list[Path] = []
        starts: list[int] = []
        # Plain integers: one list or tuple per row would trigger the cyclic garbage collector.
        row_of: dict[str, int] = {}
        rows = 0
        for part, keys in self._parts(kind):
            paths.append(part)
            starts.append(rows)
            row_of.update(zip(keys, range(rows, rows + len(keys)), strict=True))
            rows += len(keys)
        wanted = np.array([row_of.get(item.key, -1) for item in items])
        if lost := np.count_nonzero(wanted < 0):
            raise UserError(f"{lost} {kind} lost their part; run it again")
        first = np.array(starts)
        blocks = (
            _gather(paths, first, wanted[start : start + GROUP_ROWS])
            for start in range(0, len(wanted), GROUP_ROWS)
        )
        write_features(path, column, [item.name for item in items], blocks, metadata)

    def metadata(self) -> dict[str, str]:
        """Encoder, preprocessing and compute dtype, for the table's schema."""
        return {
            "encoder": self.encoder.name,
            "weights": self.encoder.weights,
            "preprocess": self.encoder.preprocessing,
            "key": self.encoder.key,
            "space": SHARED,
            "arithmetic": self.compute_dtype,
        }


def _gather(paths: Sequence[Path], starts: NDArray[np.int64], rows: NDArray[np.int64]) -> Matrix:
    """Features of the rows, counted through all parts, of which each has its first in `starts`."""
    part_of = starts.searchsorted(rows, side="right") - 1
    numbers = np.unique(part_of)
    own = [np.flatnonzero(part_of == number) for number in numbers]
    found = [
        _features(paths[number])[rows[places] - starts[number]]
        for number, places in zip(numbers, own, strict=True)
    ]
    return np.concatenate(found)[np.concatenate(own).argsort()]


def _features(path: Path) -> Matrix:
    """A part's features, mapped: only what is taken of them is read."""
    return to_matrix(feather.read_table(path, columns=["feature"], memory_map=True)["feature"])
