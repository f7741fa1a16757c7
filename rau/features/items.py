"""Items to encode: images, texts, and pairs of both, each with a key of its content."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, overload

import pyarrow as pa
import pyarrow.compute as pc

from rau.datasets.captions import asked_texts
from rau.digests import Rows
from rau.features.item import Item
from rau.features.table import pair_name
from rau.schemas import QueryRow

# Columns of a manifest that an item is made of.
COLUMNS = ("image_id", "sha256", "path")
# Rows that are processed at a time.
BLOCK_ROWS = 8192


class Pair(NamedTuple):
    """An image and a text to encode in one pass, with a name and a key like an `Item`."""

    image: Item
    text: str

    @property
    def name(self) -> str:
        """Its name in the table."""
        return pair_name(self.image.name, self.text)

    @property
    def key(self) -> str:
        """A key of both contents."""
        return f"{self.image.key} {self.text}"


Kind = TypeVar("Kind", Item, Pair)


@dataclass(frozen=True)
class Images(Sequence[Item]):
    """The images of a manifest as items, which are created on access: storing them as objects would
    take ten times the memory."""

    columns: pa.Table
    store: Path

    @property
    def names(self) -> pa.ChunkedArray:
        """Their ids, (N,)."""
        return self.columns["image_id"]

    def __len__(self) -> int:
        return len(self.columns)

    @overload
    def __getitem__(self, rows: int) -> Item: ...
    @overload
    def __getitem__(self, rows: slice) -> list[Item]: ...
    def __getitem__(self, rows: int | slice) -> Item | list[Item]:
        if isinstance(rows, int):
            return self._item(*(column[rows].as_py() for column in self.columns.columns))
        start, stop, _ = rows.indices(len(self))
        block = self.columns.slice(start, max(0, stop - start))
        own = map(self._item, *(column.to_pylist() for column in block.columns))
        return list(own)[:: rows.step]

    def __iter__(self) -> Iterator[Item]:
        for block in blocks(self):
            yield from block

    def _item(self, name: str, key: str, path: str) -> Item:
        # Strings: creating a million `Path` objects would take ten seconds.
        return Item(name, key, path if path.startswith("/") else f"{self.store}/{path}")


def image_items(manifest: pa.Table, store: Path) -> Images:
    """The valid images of a manifest, in its order."""
    whole = manifest.select(COLUMNS)
    if not pc.all(pc.equal(manifest["status"], "ok")).as_py():
        whole = whole.filter(pc.equal(manifest["status"], "ok"))
    return Images(whole, store)


def val_pairs(queries: Iterable[QueryRow], images: Iterable[Item]) -> list[Pair]:
    """All pairs of reference and text of the val queries that a protocol may need."""
    val = [query for query in queries if query["split"] == "val"]
    references = {query["reference_id"] for query in val}
    by_name = {item.name: item for item in images if item.name in references}
    found = {
        Pair(by_name[query["reference_id"]], text)
        for query in val
        if query["reference_id"] in by_name
        for text in asked_texts(query["captions"], query.get("concept"))
    }
    return sorted(found, key=lambda pair: (pair.image.name, pair.text))


@dataclass(frozen=True)
class Chosen(Sequence[Kind]):
    """Some rows of a sequence."""

    items: Sequence[Kind]
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, rows: int) -> Kind: ...
    @overload
    def __getitem__(self, rows: slice) -> list[Kind]: ...
    def __getitem__(self, rows: int | slice) -> Kind | list[Kind]:
        found: Any = self.rows[rows].tolist()
        return [self.items[row] for row in found] if isinstance(rows, slice) else self.items[found]


def blocks(items: Sequence[Kind], size: int = BLOCK_ROWS) -> Iterator[Sequence[Kind]]:
    """Yield the items in blocks."""
    return (items[start : start + size] for start in range(0, len(items), size))
