"""Feature caches: every image and every distinct text encoded once, in resumable parts.

Parts are keyed by content (an image's SHA-256, or the text itself) and stored in a folder named by
the key of the encoder's tower and its compute dtype: different towers never share parts, encoders
with the same tower do, and new images only add parts.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from rau.digests import Digests, Rows, digests
from rau.encoders.encoder import Encoder
from rau.errors import UserError
from rau.features.extraction import ENCODE
from rau.features.item import Item, text_items
from rau.features.items import Chosen, Kind, Pair, blocks
from rau.features.parts import Dtype, Index, Parts
from rau.features.table import GROUP_ROWS, PAIR, SHARED, Matrix, write_blocks
from rau.params import FeaturesParams
from rau.progress import tqdm
from rau.shards import Shard
from rau.table_metadata import CUT_TEXTS

COLUMNS = {"images": "image_id", "texts": "text", "pairs": PAIR}


class Engine(Protocol):
    """Encodes missing items: with threads of this process, or on a cluster."""

    def __call__(
        self,
        parts: Parts,
        items: Sequence[Any],
        batch: int,
        workers: int,
        advance: Callable[[int], object],
    ) -> list[str]:
        """Write parts of all the items; returns their names.

        Args:
            batch, workers: as in `extraction.encode_images`.
            advance: called with the number of newly encoded items.
        """
        ...


class LocalEngine:
    """The threads of this process."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def __call__(
        self,
        parts: Parts,
        items: Sequence[Any],
        batch: int,
        workers: int,
        advance: Callable[[int], object],
    ) -> list[str]:
        """See `Engine`."""
        return parts.write(ENCODE[parts.kind](self._encoder, items, batch, workers), advance)


class Cache:
    """Encodes the items that are not in its folder of parts, then merges parts into one table."""

    def __init__(
        self, folder: Path, encoder: Encoder, dtype: Dtype, engine: Engine | None = None
    ) -> None:
        self.encoder = encoder
        self.engine = engine or LocalEngine(encoder)
        self.compute_dtype = str(encoder.dtype).removeprefix("torch.")
        keys = {"images": encoder.image_key, "texts": encoder.text_key, "pairs": encoder.key}
        self.parts = {
            kind: Parts(folder / f"{key}-{self.compute_dtype}-{dtype}", kind, dtype)
            for kind, key in keys.items()
        }

    def encode_images(self, path: Path, items: Sequence[Item], batch: int, workers: int) -> None:
        """Write features (one row per image) to `path`."""
        self._table("images", path, items, batch, workers)

    def encode_texts(
        self, path: Path, texts: Sequence[str], batch: int, workers: int
    ) -> dict[str, str]:
        """Write features (one row per distinct text) to `path`; returns the table's metadata."""
        cut = self.encoder.count_cut(texts)
        about = {CUT_TEXTS: f"{cut:,} of {len(texts):,}"} if cut else {}
        self._table("texts", path, text_items(texts), batch, workers, about)
        return self.metadata() | about

    def encode_pairs(self, path: Path, pairs: Sequence[Pair], batch: int, workers: int) -> None:
        """Write features (one row per pair) of an encoder that composes to `path`."""
        self._table("pairs", path, pairs, batch, workers)

    def _table(
        self,
        kind: str,
        path: Path,
        items: Sequence[Kind],
        batch: int,
        workers: int,
        about: Mapping[str, str] | None = None,
    ) -> None:
        """Encode missing items, then collect all rows in the items' order, in bounded memory."""
        index, keys = self.fill(kind, items, batch, workers)
        rows = self._rows(kind, index, keys)
        groups = (slice(start, start + GROUP_ROWS) for start in range(0, len(items), GROUP_ROWS))
        named = (([item.name for item in items[own]], index.features(rows[own])) for own in groups)
        write_blocks(path, COLUMNS[kind], named, self.metadata() | dict(about or {}))

    def fill(
        self, kind: str, items: Sequence[Kind], batch: int, workers: int, shard: Shard | None = None
    ) -> tuple[Index, Digests]:
        """Encode the items that are in no part; with a shard, only those of the shard.

        Returns:
            The parts, and the digest of each item's key.

        Raises:
            UserError: as the functions of `extraction` do, and when there are no items.
        """
        if not items:
            raise UserError(f"there are no {kind} to encode; check the data set's tables")
        parts, index = self.parts[kind], Index()
        index.add(parts.whole(parts.names()))
        keys = np.concatenate([digests(item.key for item in block) for block in blocks(items)])
        rows = np.flatnonzero(index.find(keys) < 0)
        # Only the first of several items with the same key.
        _, first = np.unique(keys[rows], return_index=True)
        rows = rows[np.sort(first)]
        if shard is not None:
            rows = rows[[shard.holds(items[row].key) for row in rows.tolist()]]
        whole = len(items) if shard is None else len(rows)
        with tqdm(
            total=whole, initial=whole - len(rows), desc=f"encode {kind}", unit=kind[:-1]
        ) as bar:
            missing = Chosen(items, rows)
            names = self.engine(parts, missing, batch, workers, bar.update) if len(rows) else []
        index.add(parts.whole(names))
        return index, keys

    def features(self, kind: str, items: Sequence[Kind], batch: int, workers: int) -> Matrix:
        """Features (N, d) of the items in their order; those that no part holds are encoded.

        Raises:
            UserError: as `fill` does.
        """
        index, keys = self.fill(kind, items, batch, workers)
        return index.features(self._rows(kind, index, keys))

    def _rows(self, kind: str, index: Index, keys: Digests) -> Rows:
        rows = index.find(keys)
        if lost := np.count_nonzero(rows < 0):
            raise UserError(f"the encoded parts of {lost:,} {kind} have disappeared; run it again")
        return rows

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


def cached(
    folder: Path, params: FeaturesParams, encoder: Encoder, kind: str, items: Sequence[Item]
) -> Matrix:
    """Features (N, d) of the items in the type that the tables have; see `Cache.features`.

    Args:
        folder: of parts.
        kind: `images` or `texts`.
    """
    workers = params.workers or torch.get_num_threads()
    return Cache(folder, encoder, params.dtype).features(kind, items, params.batch_size, workers)
