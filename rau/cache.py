"""Feature caches: every image and every distinct text encoded once, in resumable parts.

Parts are keyed by what was encoded (an image's SHA-256, a text itself) and lie in a folder named
by the encoder's key and arithmetic: another encoder never meets them, more images only add to them.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import IO, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm import tqdm

from rau.encoder import Encoder
from rau.encoding import Encoded, Item, encode_images, encode_texts
from rau.errors import UserError
from rau.features import GROUP_ROWS, PLAIN, SHARED, Matrix, to_array, to_matrix, write_blocks
from rau.files import atomic_path

PART_ROWS = 2048
Dtype = Literal["float16", "float32"]


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
        self.arithmetic = str(encoder.dtype).removeprefix("torch.")
        self.folder = folder / f"{encoder.key}-{self.arithmetic}-{dtype}"

    def encode_images(self, path: Path, items: Sequence[Item], batch: int, workers: int) -> None:
        """Write features (one row an image) to `path`."""
        self._encode("images", items, partial(encode_images, batch=batch, workers=workers))
        self._merge("images", "image_id", path, items)

    def encode_texts(self, path: Path, texts: Sequence[str], batch: int, workers: int) -> None:
        """Write features (one row a distinct text) to `path`."""
        items = [Item(text, text, text) for text in texts]
        self._encode("texts", items, partial(encode_texts, batch=batch, workers=workers))
        self._merge("texts", "text", path, items)

    def _encode(
        self,
        kind: str,
        items: Sequence[Item],
        encode: Callable[[Encoder, Sequence[Item]], Encoded],
    ) -> None:
        done = {key for part in self._parts(kind, ["key"]) for key in part["key"].to_pylist()}
        missing = list({item.key: item for item in items if item.key not in done}.values())
        keys: list[str] = []
        rows: list[Matrix] = []
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
            pq.write_table(table, temporary, **PLAIN)

    def _parts(self, kind: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
        for path in sorted(self.folder.glob(f"{kind}-*.parquet")):
            try:
                yield pq.read_table(path, columns=columns)
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
            filled = np.zeros(len(items), dtype=bool)
            width = 0
            for part in self._parts(kind):
                features = to_matrix(part["feature"])
                width = features.shape[1]
                pairs = [
                    (row, source)
                    for source, key in enumerate(part["key"].to_pylist())
                    for row in rows_of.get(key, ())
                ]
                _scatter(scratch, features, np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2))
                filled[[row for row, _ in pairs]] = True
            if not width:
                raise UserError(f"there are no {kind} to encode; check the data set's tables")
            if not filled.all():
                raise UserError(f"{int((~filled).sum())} {kind} lost their part; run it again")
            scratch.seek(0)
            size = GROUP_ROWS * width * self.dtype.itemsize
            blocks = (
                np.frombuffer(block, self.dtype).reshape(-1, width)
                for block in iter(lambda: scratch.read(size), b"")
            )
            names = [item.name for item in items]
            write_blocks(path, column, names, blocks, self.metadata())

    def metadata(self) -> dict[str, str]:
        """What the features were made with, kept in the table's schema."""
        return {
            "encoder": self.encoder.name,
            "weights": self.encoder.weights,
            "preprocess": " ".join(repr(self.encoder.preprocess).split()),
            "key": self.encoder.key,
            "space": SHARED,
            "arithmetic": self.arithmetic,
        }


def _scatter(file: IO[bytes], features: Matrix, pairs: NDArray[np.int64]) -> None:
    """Write rows to their places: of pairs (place, row), ascending, neighbours at once."""
    breaks = np.flatnonzero(np.diff(pairs[:, 0]) != 1) + 1
    for run in np.split(pairs, breaks):
        if len(run):
            file.seek(int(run[0, 0]) * features[0].nbytes)
            file.write(features[run[:, 1]].data)
