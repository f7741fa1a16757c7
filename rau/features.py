"""Feature caches: every image and every distinct text encoded once, in resumable parts.

Parts are keyed by what was encoded (an image's SHA-256, a text itself) and lie in a folder named
by the encoder's key: another encoder never meets them, more images only add to them.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from rau.encoder import Encoder
from rau.errors import UserError
from rau.files import atomic_path

PART_ROWS = 2048
GROUP_ROWS = 8192
Dtype = Literal["float16", "float32"]
Matrix = NDArray[Any]


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


def to_array(matrix: Matrix) -> pa.Array:
    """A fixed-size list array (N, d) of a matrix."""
    return pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(matrix).reshape(-1)), matrix.shape[1]
    )


def to_matrix(column: pa.ChunkedArray) -> Matrix:
    """The matrix (N, d) of a fixed-size list column; no copy where it is one chunk."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], type=column.type)
    return np.asarray(array.flatten()).reshape(len(array), column.type.list_size)


class Cache:
    """Encodes what its folder of parts does not hold yet, then merges parts into one table."""

    def __init__(self, folder: Path, encoder: Encoder, dtype: Dtype) -> None:
        self.encoder = encoder
        self.dtype = np.dtype(dtype)
        self.folder = folder / f"{encoder.key}-{dtype}"

    def encode_images(self, path: Path, items: Sequence[Item], batch: int, workers: int) -> None:
        """Write features (one row an image) to `path`; decoding overlaps with the forward pass."""

        def load(chunk: Sequence[Item]) -> torch.Tensor:
            return torch.stack([_prepare(self.encoder, item) for item in chunk])

        with ThreadPoolExecutor(max(1, workers)) as pool:
            # Small tasks keep every decoding thread busy while one batch is encoded.
            ahead = 2 * workers + 2

            def batches(missing: Sequence[Item]) -> Iterator[tuple[Sequence[Item], Matrix]]:
                chunks = [missing[i : i + batch] for i in range(0, len(missing), batch)]
                for chunk, pixels in _ahead(pool, load, chunks, min(ahead, 4)):
                    yield chunk, self.encoder.encode_images(pixels).numpy()

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
                if not np.isfinite(features.astype(self.dtype)).all():
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
            for part in self._parts(kind):
                features = to_matrix(part["feature"])
                if matrix is None:
                    shape = (len(items), features.shape[1])
                    matrix = np.memmap(scratch, self.dtype, "w+", shape=shape)
                wanted = [
                    (row, source)
                    for source, key in enumerate(part["key"].to_pylist())
                    for row in rows_of.get(key, ())
                ]
                if wanted:
                    target, source_rows = map(list, zip(*wanted, strict=True))
                    matrix[target] = features[source_rows]
            if matrix is None:
                raise UserError(f"there are no {kind} to encode; check the data set's tables")
            names = [item.name for item in items]
            write_features(path, column, names, matrix, self.metadata())

    def metadata(self) -> dict[str, str]:
        """What the features were made with, kept in the table's schema."""
        return {
            "encoder": self.encoder.name,
            "weights": self.encoder.weights,
            "preprocess": " ".join(repr(self.encoder.preprocess).split()),
            "key": self.encoder.key,
        }


def _prepare(encoder: Encoder, item: Item) -> torch.Tensor:
    try:
        return encoder.prepare(Path(item.content))
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(
            f"{item.content} cannot be read any more ({error}); run `python -m pipeline.download`"
        ) from error


def _ahead(
    pool: ThreadPoolExecutor, load: Callable[[Any], Any], chunks: Iterable[Any], depth: int
) -> Iterator[tuple[Any, Any]]:
    """Load chunks on the pool, at most `depth` of them before they are asked for."""
    waiting: list[tuple[Any, Future[Any]]] = []
    for chunk in chunks:
        waiting.append((chunk, pool.submit(load, chunk)))
        if len(waiting) >= depth:
            first, future = waiting.pop(0)
            yield first, future.result()
    for chunk, future in waiting:
        yield chunk, future.result()


def write_features(
    path: Path, column: str, names: Sequence[str], matrix: Matrix, metadata: dict[str, str]
) -> None:
    """Write a feature table, whole or not at all, one row group at a time.

    Args:
        column: `image_id` or `text`.
        matrix: (N, d) float16 or float32, may be memory-mapped.
    """
    value = pa.from_numpy_dtype(matrix.dtype)
    schema = pa.schema(
        [(column, pa.string()), ("feature", pa.list_(value, matrix.shape[1]))], metadata
    )
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for start in range(0, len(names), GROUP_ROWS):
            stop = start + GROUP_ROWS
            columns = [pa.array(names[start:stop]), to_array(matrix[start:stop])]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


@dataclass(frozen=True)
class Features:
    """A feature table in memory: names, matrix (N, d), and what made it."""

    names: list[str]
    matrix: Matrix
    metadata: dict[str, str]

    def rows(self, names: Iterable[str], what: str) -> NDArray[np.int64]:
        """Row numbers of `names`.

        Raises:
            UserError: naming the first few that have no feature, and how many.
        """
        index = {name: row for row, name in enumerate(self.names)}
        wanted = list(names)
        absent = [name for name in dict.fromkeys(wanted) if name not in index]
        if absent:
            raise UserError(
                f"{len(absent):,} {what} have no feature: {', '.join(map(repr, absent[:3]))}; "
                "run `python -m pipeline.features`"
            )
        return np.array([index[name] for name in wanted], dtype=np.int64)


def read_features(path: Path, column: str) -> Features:
    """Read a feature table.

    Raises:
        UserError: when it is missing, cut short or of another form.
    """
    remedy = "run `python -m pipeline.features` again"
    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; {remedy}") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is not a whole Parquet file; {remedy}") from error
    if table.column_names != [column, "feature"]:
        raise UserError(f"{path} has columns {table.column_names}, not {column} and feature")
    kind = table.schema.field("feature").type
    if not pa.types.is_fixed_size_list(kind) or kind.value_type not in (pa.float16(), pa.float32()):
        raise UserError(f"{path}: feature is {kind}, not a fixed-size list of float16 or float32")
    metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    return Features(table[column].to_pylist(), to_matrix(table["feature"]), metadata)


def read_pair(images: Path, texts: Path) -> tuple[Features, Features]:
    """Read both tables and refuse two that different encoders made.

    Raises:
        UserError: also where `read_features` does.
    """
    pair = read_features(images, "image_id"), read_features(texts, "text")
    keys = [features.metadata.get("key") for features in pair]
    if keys[0] != keys[1]:
        raise UserError(
            f"{images} and {texts} were made by different encoders ({keys[0]}, {keys[1]}); "
            "run `python -m pipeline.features` again"
        )
    return pair


def check_made_for(
    pair: tuple[Features, Features], metadata: dict[str, str], d_image: int, d_text: int
) -> None:
    """Refuse features of another encoder than the one that a head was trained on.

    Raises:
        UserError: when key or widths differ.
    """
    images, texts = pair
    widths = (images.matrix.shape[1], texts.matrix.shape[1])
    if images.metadata.get("key") != metadata.get("key") or widths != (d_image, d_text):
        raise UserError(
            f"the head was trained on features of {metadata.get('encoder')} ({d_image} and "
            f"{d_text} wide, key {metadata.get('key')}), these are of "
            f"{images.metadata.get('encoder')} ({widths[0]} and {widths[1]} wide, key "
            f"{images.metadata.get('key')}); run `python -m pipeline.train` again"
        )
