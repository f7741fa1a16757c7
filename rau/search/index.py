"""An index: a folder with the vectors, attributes and thumbnails of a catalogue's images.

    index.json          the manifest: the current segments, and their model
    segments/<name>/    see `rau.search.segments`; written once, never changed
    deleted/<name>.npy  deleted rows of a segment
    models/<key>/       a copy of the encoder and the head, so that the index can be served anywhere
    parts/              images that a build has encoded but not committed yet
    unreadable.csv      images that were left out, and the reasons

The manifest lists all valid files and is replaced by one rename, so that a killed process leaves
the index as it was. The files it has written are removed by the next writer. `Index` is a snapshot
that continues to use the files it opened.
"""

import secrets
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
import pyarrow as pa
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from rau.errors import UserError
from rau.files import as_text, atomic_path, make_folder, write_json
from rau.params import Section
from rau.search.engines.engine import Engine
from rau.search.engines.exact import Exact
from rau.search.segments import REMEDY, Block, Segment, write_segment
from rau.search.where import Condition, passing

if TYPE_CHECKING:
    from rau.search.engines.lance import Lance

MANIFEST, MODELS, PARTS = "index.json", "models", "parts"
SEGMENTS, DELETED, LANCE = "segments", "deleted", "lancedb"
# The attribute with the category that an image is trained and evaluated in.
CATEGORY = "category"
MAX_MANIFEST_BYTES = 2**24
Name = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Key = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
EngineName = Literal["exact", "lancedb"]
Rows = NDArray[np.int64]


class SegmentEntry(Section):
    """A current segment; `deleted` names the list of its deleted rows."""

    name: Name
    rows: PositiveInt
    dead: NonNegativeInt = 0
    deleted: Name | None = None


class Manifest(Section):
    """The content of an index.

    Attributes:
        model: key of the encoder and head that computed the vectors.
        features: key of the features: image tower, preprocessing and compute dtype.
        dim, d_image: dimensions of vectors and features.
        source: description of the indexed catalogue, as in `rau.search.catalogue.Catalogue`.
        feature_sum: sum of the unit image features of all images that were ever encoded.
        lance: table and version of LanceDB's own files, if it is the engine.
    """

    format: Literal["rau-index-1"] = "rau-index-1"
    model: Key
    features: Key
    dim: Annotated[int, Field(ge=1, le=2**17)]
    d_image: Annotated[int, Field(ge=1, le=2**17)]
    source: str
    engine: EngineName = "exact"
    lance: Annotated[tuple[Name, NonNegativeInt], Field(strict=False)] | None = None
    # There is at least one: a build that reads no image does not write an index.
    segments: Annotated[list[SegmentEntry], Field(min_length=1)] = Field(default_factory=list)
    feature_sum: list[Annotated[float, Field(allow_inf_nan=False)]]
    feature_count: PositiveInt

    @property
    def count(self) -> int:
        """Number of images."""
        return sum(one.rows - one.dead for one in self.segments)


class Index:
    """A read-only snapshot of an index, safe to use from any number of threads."""

    def __init__(self, folder: Path, manifest: Manifest, old: "Index | None" = None) -> None:
        self.folder, self.manifest = folder, manifest
        opened = {one.folder.name: one for one in old.segments} if old else {}
        self.segments: list[Segment] = [
            opened.get(one.name)
            or Segment(folder / SEGMENTS / one.name, one.rows, manifest.dim, manifest.d_image)
            for one in manifest.segments
        ]
        self.deleted = [_read_deleted(folder, one) for one in manifest.segments]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read an index.

        Raises:
            UserError: if it does not exist or is damaged.
        """
        manifest = read_manifest(folder)
        try:
            return cls(folder, manifest)
        except UserError:
            # A writer may have replaced it meanwhile and removed the old files.
            again = read_manifest(folder)
            if again == manifest:
                raise
            return cls(folder, again)

    @property
    def model_folder(self) -> Path:
        """The folder with the copy of encoder and head."""
        return self.folder / MODELS / self.manifest.model

    @property
    def stale(self) -> bool:
        """Whether the folder has changed; open it again to use the new state."""
        return read_manifest(self.folder) != self.manifest

    def __len__(self) -> int:
        return self.manifest.count

    @property
    def schema(self) -> pa.Schema:
        """The attributes' columns."""
        return self.segments[0].attributes.schema

    @property
    def centre(self) -> Tensor:
        """Mean of the unit image features, (d_image,)."""
        return torch.tensor(self.manifest.feature_sum) / self.manifest.feature_count

    @cached_property
    def place(self) -> dict[str, tuple[int, int]]:
        """Segment and row of each image by id."""
        found: dict[str, tuple[int, int]] = {}
        for number, segment in enumerate(self.segments):
            ids = segment.ids.to_pylist()
            found |= {ids[row]: (number, row) for row in self.alive(number).tolist()}
        return found

    def alive(self, number: int) -> Rows:
        """Rows of a segment that are not deleted, in ascending order."""
        return np.delete(np.arange(len(self.segments[number])), self.deleted[number])

    @cached_property
    def engine(self) -> Engine:
        """The engine that searches it."""
        if self.manifest.lance is None:
            return self.exact
        from rau.search.engines.lance import Lance, State

        return Lance.open(self.folder, self.schema.names, State(*self.manifest.lance))

    @cached_property
    def exact(self) -> Exact:
        """The exact engine, independent of the index's own."""
        engine = Exact()
        for segment, gone in zip(self.segments, self.deleted, strict=True):
            engine.add(segment.ids, segment.attributes, segment.vectors)
            if len(gone):
                engine.delete(segment.ids.take(pa.array(gone)).to_pylist())
        return engine

    def count(self, where: Condition | None = None, left_out: Collection[str] = ()) -> int:
        """Number of images that pass a filter, excluding some ids."""
        places = {self.place[name] for name in left_out if name in self.place}
        if where is None:
            return len(self) - len(places)
        masks = [passing(where, one.attributes) for one in self.segments]
        passed = sum(int(mask[self.alive(n)].sum()) for n, mask in enumerate(masks))
        return passed - sum(bool(masks[n][row]) for n, row in places)

    @cached_property
    def categories(self) -> int:
        """Number of categories; 0 if the category is not an attribute with strings."""
        return self.count_categories()

    def count_categories(self, where: Condition | None = None) -> int:
        """As `categories`, of the images that pass a filter."""
        column = self.schema.get_field_index(CATEGORY)
        if column < 0 or not pa.types.is_string(self.schema.field(column).type):
            return 0
        found: set[str | None] = set()
        for number, segment in enumerate(self.segments):
            rows = self.alive(number)
            if where is not None:
                rows = rows[passing(where, segment.attributes)[rows]]
            values = segment.attributes[column].take(pa.array(rows))
            found |= {*values.unique().to_pylist()}
        return len(found - {None})

    def thumbnail(self, image: str) -> bytes | None:
        """An image's thumbnail, a JPEG file, by id; None if there is no such image."""
        place = self.place.get(image)
        return None if place is None else self.segments[place[0]].thumbnail(place[1])

    def feature(self, image: str) -> Tensor:
        """An image's raw feature (d_image,) by id."""
        number, row = self.place[image]
        return torch.from_numpy(self.segments[number].features[row].astype(np.float32))

    def attributes(self, image: str) -> dict[str, object]:
        """An image's attributes by id, without those that have no value."""
        number, row = self.place[image]
        values = self.segments[number].attributes.slice(row, 1).to_pylist()
        return {k: v for k, v in (values[0] if values else {}).items() if v is not None}

    def path(self, image: str) -> str:
        """Path of an image's file when it was indexed, relative to the catalogue."""
        number, row = self.place[image]
        return str(self.segments[number].paths[row].as_py())


def read_manifest(folder: Path) -> Manifest:
    """Read an index's manifest.

    Raises:
        UserError: if it is missing or malformed, or its path is not UTF-8.
    """
    _check_name(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(f"{folder} is not an index; create one with `rau index FOLDER --index …`")
    return Manifest.read_json(path, MAX_MANIFEST_BYTES, REMEDY)


def _check_name(folder: Path) -> None:
    """Reject a path that Arrow cannot open."""
    if (name := as_text(str(folder))) != str(folder):
        raise UserError(f"the path of the index {name} is not UTF-8; choose another folder")


def _read_deleted(folder: Path, entry: SegmentEntry) -> Rows:
    if entry.deleted is None:
        return np.empty(0, np.int64)
    path = folder / DELETED / f"{entry.deleted}.npy"
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read; {REMEDY}") from error
    ascending = rows.ndim == 1 and rows.dtype == np.int64 and bool((np.diff(rows) > 0).all())
    if not ascending or len(rows) != entry.dead or not 0 <= rows[0] <= rows[-1] < entry.rows:
        raise UserError(f"{path} is damaged; {REMEDY}")
    return np.asarray(rows, np.int64)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Lock an index for writing, and remove the leftovers of a killed process.

    Raises:
        UserError: if another process writes to it, or its path is not UTF-8.
    """
    _check_name(folder)
    make_folder(folder)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(f"another process is writing to {folder}; wait until it ends") from error
    with lock:
        _clean(folder)
        yield


def _clean(folder: Path) -> None:
    """Remove segments, lists, models and tables that are not in the manifest."""
    known: set[str] = set()
    if (folder / MANIFEST).is_file():
        manifest = read_manifest(folder)
        known = {manifest.model, *(f"{name}.lance" for name in (manifest.lance or ())[:1])}
        for entry in manifest.segments:
            known |= {entry.name, f"{entry.deleted}.npy"}
    for place in (SEGMENTS, DELETED, MODELS, LANCE):
        for path in (folder / place).iterdir() if (folder / place).is_dir() else ():
            if path.name not in known:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def commit(
    folder: Path,
    old: Index | None,
    manifest: Callable[[], Manifest],
    removed: Sequence[str],
    added: Iterable[Block],
    count: int,
) -> Index:
    """Write changes as a new segment and new lists of deleted rows, then rename the manifest.

    The last segments are merged into the new one as long as they are not larger than it, and so are
    segments that have lost more than half of their rows. There are therefore few segments, each at
    least half full, and an image is copied a logarithmic number of times.

    Args:
        old: the current index; None if there is none.
        manifest: called after all is written; returns the new manifest, except for its segments and
            the engine's state.
        removed: ids to remove from the old segments.
        added: `count` new images.
    """
    entries = old.manifest.segments if old else []
    alive = _alive_after(old, removed)
    gone = _to_merge(entries, alive, count)
    kept = [
        _entry(folder, entry, alive[number])
        for number, entry in enumerate(entries)
        if number not in gone
    ]
    moved = sum(len(alive[number]) for number in gone)
    if moved + count:
        name = secrets.token_hex(8)
        copied = (b for n in gone if old for b in old.segments[n].blocks(alive[n]))
        rows = write_segment(folder / SEGMENTS / name, chain(copied, added))
        kept.append(SegmentEntry(name=name, rows=rows))
    new = manifest().model_copy(update={"segments": kept})
    if old is not None and new.model_copy(update={"lance": old.manifest.lance}) == old.manifest:
        return old
    lance = _updated_lance(folder, old, new, removed, count) if new.engine == "lancedb" else None
    if lance is not None:
        new = new.model_copy(update={"lance": tuple(lance.flush())})
    write_json(folder / MANIFEST, new.model_dump())
    if lance is not None:
        lance.tidy()
    return Index(folder, new, old)


def _to_merge(entries: Sequence[SegmentEntry], alive: Sequence[Rows], count: int) -> list[int]:
    """Numbers of the segments to merge into a new one with `count` new images."""
    gone = {n for n, entry in enumerate(entries) if 2 * len(alive[n]) < entry.rows}
    total = count + sum(len(alive[number]) for number in gone)
    for number in reversed(range(len(entries))):
        if number not in gone:
            if len(alive[number]) > total:
                break
            gone.add(number)
            total += len(alive[number])
    return sorted(gone)


def _updated_lance(
    folder: Path, old: Index | None, new: Manifest, removed: Sequence[str], count: int
) -> "Lance":
    """LanceDB's table with the content of the new manifest, to be flushed."""
    from rau.search.engines.lance import Lance, State

    index = Index(folder, new, old)
    same = old is not None and (old.manifest.model, old.schema) == (new.model, index.schema)
    if old is None or old.manifest.lance is None or not same:
        engine = Lance.new(folder, index.schema, new.dim)
        for number, segment in enumerate(index.segments):
            for block in segment.blocks(index.alive(number)):
                engine.add(block.images["id"], block.attributes, block.vectors)
    else:
        engine = Lance.continued(folder, index.schema.names, State(*old.manifest.lance))
        engine.delete(removed)
        # New rows are at the end of the last segment.
        last = index.segments[-1]
        for block in last.blocks(np.arange(len(last) - count, len(last))) if count else ():
            engine.add(block.images["id"], block.attributes, block.vectors)
    return engine


def _alive_after(old: Index | None, removed: Sequence[str]) -> list[Rows]:
    """Rows of each old segment that remain."""
    if old is None:
        return []
    places = [old.place[name] for name in removed]
    found = []
    for number in range(len(old.segments)):
        gone = [row for segment, row in places if segment == number]
        # Neither has duplicates; checking this would take longer than the rest.
        found.append(np.setdiff1d(old.alive(number), np.array(gone, np.int64), assume_unique=True))
    return found


def _entry(folder: Path, entry: SegmentEntry, alive: Rows) -> SegmentEntry:
    """The entry of a kept segment, with a new list if more of its rows are deleted."""
    dead = entry.rows - len(alive)
    if dead == entry.dead:
        return entry
    name = secrets.token_hex(8)
    with atomic_path(folder / DELETED / f"{name}.npy") as temporary, temporary.open("wb") as file:
        np.save(file, np.delete(np.arange(entry.rows), alive), allow_pickle=False)
    return entry.model_copy(update={"dead": dead, "deleted": name})
