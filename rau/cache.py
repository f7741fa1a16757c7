"""Feature caches: every image and every distinct text encoded once, in resumable parts.

Parts are keyed by what was encoded (an image's SHA-256, a text itself) and lie in a folder named
by the encoder's key: another encoder never meets them, more images only add to them.
"""

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from tqdm import tqdm

from rau.encoder import Encoder, prepare
from rau.errors import UserError
from rau.features import SHARED, Matrix, to_array, to_matrix, write_features
from rau.files import atomic_path

PART_ROWS = 2048
Dtype = Literal["float16", "float32"]


@dataclass(frozen=True)
class Item:
    """One thing to encode: its name in the table, the key of its content, and itself."""

    name: str
    key: str
    content: Path | str


def image_items(manifest: pa.Table, store: Path) -> list[Item]:
    """The whole images of a manifest, in its order."""
    return [
        Item(row["image_id"], row["sha256"], store / row["path"])
        for row in manifest.to_pylist()
        if row["status"] == "ok"
    ]


class Cache:
    """Encodes what its folder of parts does not hold yet, then merges parts into one table."""

    def __init__(self, folder: Path, encoder: Encoder, dtype: Dtype) -> None:
        self.encoder = encoder
        self.dtype = np.dtype(dtype)
        self.folder = folder / f"{encoder.key}-{dtype}"

    def encode_images(self, path: Path, items: Sequence[Item], batch: int, workers: int) -> None:
        """Write features (one row an image) to `path`; decoding overlaps with the forward pass."""

        def load(item: Item) -> Tensor:
            return prepare(self.encoder, Path(item.content))

        with ThreadPoolExecutor(max(1, workers)) as pool:

            def batches(missing: Sequence[Item]) -> Iterator[tuple[Sequence[Item], Matrix]]:
                decoded = _ahead(pool, load, missing, 2 * batch)
                while ready := list(islice(decoded, batch)):
                    pixels = torch.stack([tensor for _, tensor in ready])
                    yield [i for i, _ in ready], self.encoder.encode_images(pixels).numpy()

            self._encode("images", items, batches)
        self._merge("images", "image_id", path, items)

    def encode_texts(self, path: Path, texts: Sequence[str], batch: int) -> None:
        """Write features (one row a distinct text) to `path`."""
        items = [Item(text, text, text) for text in texts]

        def batches(missing: Sequence[Item]) -> Iterator[tuple[Sequence[Item], Matrix]]:
            for start in range(0, len(missing), batch):
                chunk = missing[start : start + batch]
                yield chunk, self.encoder.encode_texts([str(i.content) for i in chunk]).numpy()

        self._encode("texts", items, batches)
        self._merge("texts", "text", path, items)

    def _encode(
        self,
        kind: str,
        items: Sequence[Item],
        batches: Callable[[Sequence[Item]], Iterator[tuple[Sequence[Item], Matrix]]],
    ) -> None:
        done = {key for part in self._parts(kind) for key in part["key"].to_pylist()}
        missing = list({item.key: item for item in items if item.key not in done}.values())
        keys: list[str] = []
        rows: list[Matrix] = []
        with tqdm(
            total=len(items),
            initial=len(items) - len(missing),
            desc=f"encode {kind}",
            unit=kind[:-1],
        ) as bar:
            for chunk, features in batches(missing):
                if not (np.abs(features) <= np.finfo(self.dtype).max).all():
                    raise UserError(f"the encoder gave a feature that {self.dtype} cannot hold")
                keys += [item.key for item in chunk]
                rows.append(features.astype(self.dtype))
                bar.update(len(chunk))
                if len(keys) >= PART_ROWS:
                    self._write_part(kind, keys, rows)
                    keys, rows = [], []
            if keys:
                self._write_part(kind, keys, rows)

    def _write_part(self, kind: str, keys: list[str], rows: list[Matrix]) -> None:
        table = pa.table({"key": keys, "feature": to_array(np.concatenate(rows))})
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=f"{kind}-", dir=self.folder) as name:
            target = Path(f"{name.name}.parquet")
        with atomic_path(target) as temporary:
            pq.write_table(table, temporary)

    def _parts(self, kind: str) -> Iterator[pa.Table]:
        for path in sorted(self.folder.glob(f"{kind}-*.parquet")):
            try:
                yield pq.read_table(path)
            except (pa.ArrowInvalid, OSError):
                # Its rows count as missing and are encoded again.
                tqdm.write(f"{path} is cut short: removed, its rows are encoded again")
                path.unlink()

    def _merge(self, kind: str, column: str, path: Path, items: Sequence[Item]) -> None:
        """Gather the parts in the items' order through a file on disk, in bounded memory."""
        rows_of: dict[str, list[int]] = {}
        for row, item in enumerate(items):
            rows_of.setdefault(item.key, []).append(row)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent) as scratch:
            matrix: Matrix | None = None
            filled = np.zeros(len(items), dtype=bool)
            for part in self._parts(kind):
                features = to_matrix(part["feature"])
                if matrix is None:
                    shape = (len(items), features.shape[1])
                    _reserve(scratch.fileno(), shape[0] * shape[1] * self.dtype.itemsize)
                    matrix = np.memmap(scratch, self.dtype, "w+", shape=shape)
                wanted = [
                    (row, source)
                    for source, key in enumerate(part["key"].to_pylist())
                    for row in rows_of.get(key, ())
                ]
                if wanted:
                    target, source_rows = map(list, zip(*wanted, strict=True))
                    matrix[target] = features[source_rows]
                    filled[target] = True
            if matrix is None:
                raise UserError(f"there are no {kind} to encode; check the data set's tables")
            if not filled.all():
                raise UserError(f"{int((~filled).sum())} {kind} lost their part; run it again")
            names = [item.name for item in items]
            write_features(path, column, names, matrix, self.metadata())

    def metadata(self) -> dict[str, str]:
        """What the features were made with, kept in the table's schema."""
        return {
            "encoder": self.encoder.name,
            "weights": self.encoder.weights,
            "preprocess": " ".join(repr(self.encoder.preprocess).split()),
            "key": self.encoder.key,
            "space": SHARED,
        }


def _reserve(file: int, size: int) -> None:
    """Take the disk space now: a full disk under a memory map kills without a word."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, max(1, size))


def _ahead(
    pool: ThreadPoolExecutor, load: Callable[[Item], Tensor], items: Iterable[Item], depth: int
) -> Iterator[tuple[Item, Tensor]]:
    """Load items on the pool, at most `depth` of them before they are asked for."""
    waiting: deque[tuple[Item, Future[Tensor]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(load, item)))
        if len(waiting) >= depth:
            first, future = waiting.popleft()
            yield first, future.result()
    for item, future in waiting:
        yield item, future.result()
