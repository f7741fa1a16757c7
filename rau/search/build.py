"""An index made equal to a catalogue: what is new or changed is encoded, what is gone is removed.

A picture counts as unchanged where its file has the size and time that it had; else its SHA-256
decides, and where that is known already nothing is encoded. Attributes alone are written again
without a look at the pictures.
"""

import csv
import hashlib
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from rau.errors import UserError
from rau.features.extraction import encode_batches
from rau.files import new_folder, read_bytes, write_text
from rau.pictures import MAX_BYTES, open_rgb
from rau.search.catalogue import Catalogue
from rau.search.engines.engine import Vectors
from rau.search.index import (
    MANIFEST,
    MODELS,
    PARTS,
    EngineName,
    Index,
    Manifest,
    commit,
    writing,
)
from rau.search.model import Model
from rau.search.parts import Parts
from rau.search.segments import PICTURE, Block, taken

UNREADABLE = "unreadable.csv"
# Pixels of a thumbnail's longer side, and the JPEG quality.
THUMBNAIL, QUALITY = 256, 85
_ROWS = 4096
_LARGEST = float(np.finfo(np.float16).max)


@dataclass
class Changes:
    """What a build did, in numbers of pictures; `unreadable` says why by path."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    kept: int = 0
    encoded: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        left = f", {len(self.unreadable):,} cannot be read" if self.unreadable else ""
        return (
            f"{self.added:,} added, {self.changed:,} changed, {self.removed:,} removed, "
            f"{self.kept:,} as they were{left}; {self.encoded:,} encoded"
        )


class _File(NamedTuple):
    """What is known of a picture's file."""

    sha256: str
    bytes: int
    mtime_ns: int


def build(
    folder: Path,
    catalogue: Catalogue,
    model: Model,
    engine: EngineName,
    batch: int,
    workers: int,
    renew: bool = False,
) -> tuple[Index, Changes]:
    """Make an index equal to a catalogue, or leave it as it was.

    Args:
        folder: of the index; made where it is missing.
        batch: pictures in one forward pass, of all workers together.
        workers: threads that decode; on a CPU they encode too.
        renew: take an index of another model over, with its features where the encoder is the same.

    Raises:
        UserError: when the index is of another model, shares no picture with the catalogue, is
            being written to, or no picture can be read.
    """
    with writing(folder):
        old = Index.open(folder) if (folder / MANIFEST).exists() else None
        _check(old, catalogue, model, renew)
        parts = Parts(folder / PARTS, model.features_key)
        before = _Before.of(old, model)
        files, changes = _read(catalogue, before, model, parts, batch, workers)
        written, removed = _compare(catalogue, before, files, changes)
        if len(changes.unreadable) == len(catalogue):
            path, reason = next(iter(changes.unreadable.items()))
            raise UserError(f"no picture can be read; {path}: {reason}")
        copy = folder / MODELS / model.key
        if not copy.exists():
            with new_folder(copy) as temporary:
                model.copy_to(temporary)
        blocks = _Blocks(catalogue, before, files, written, model, parts)
        index = _commit(folder, catalogue.source, model, engine, before, removed, blocks)
        _write_unreadable(folder / UNREADABLE, changes.unreadable)
        parts.clear()
    return index, changes


def _check(old: Index | None, catalogue: Catalogue, model: Model, renew: bool) -> None:
    """Refuse what would mix models, or empty an index by mistake."""
    if old is None:
        return
    if old.manifest.model != model.key and not renew:
        raise UserError(
            f"{old.folder} is of another model (key {old.manifest.model[:8]}, this one is "
            f"{model.key[:8]}); name that model, or give --renew to make the index this one's"
        )
    if not any(name in old.place for name in catalogue.ids):
        raise UserError(
            f"{catalogue.source} has none of the {len(old):,} pictures of {old.folder} "
            f"({old.manifest.source}); name its catalogue, or remove the folder to start anew"
        )


@dataclass(frozen=True)
class _Before:
    """The pictures of the index as it is, one after another.

    Attributes:
        same: whether its vectors are this model's, and may stay.
        known: whether its features are this encoder's, and may be used.
        row: place of each picture among all, by id.
        files, paths, places: by that place; `places` are segment and row.
    """

    index: Index | None
    same: bool
    known: bool
    row: dict[str, int]
    files: list[_File]
    paths: list[str]
    places: list[tuple[int, int]]
    by_digest: dict[str, tuple[int, int]]
    attributes: pa.Table

    @classmethod
    def of(cls, old: Index | None, model: Model) -> Self:
        if old is None:
            return cls(None, False, False, {}, [], [], [], {}, pa.table({}))
        alive = [pa.array(old.alive(number)) for number in range(len(old.segments))]
        segments = list(zip(old.segments, alive, strict=True))
        rows = pa.concat_tables([taken(one.pictures, kept) for one, kept in segments])
        columns = rows.to_pydict()
        triples = zip(columns["sha256"], columns["bytes"], columns["mtime_ns"], strict=True)
        files = [_File(*one) for one in triples]
        places = [old.place[name] for name in columns["id"]]
        known = old.manifest.features == model.features_key
        return cls(
            old,
            old.manifest.model == model.key,
            known,
            {name: row for row, name in enumerate(columns["id"])},
            files,
            columns["path"],
            places,
            dict(zip(columns["sha256"], places, strict=True)) if known else {},
            pa.concat_tables([taken(one.attributes, kept) for one, kept in segments]),
        )


def _read(
    catalogue: Catalogue, before: _Before, model: Model, parts: Parts, batch: int, workers: int
) -> tuple[dict[int, _File], Changes]:
    """Encode the pictures that are not known; returns every readable one's file by its place."""
    files: dict[int, _File] = {}
    changes, ask = Changes(), []
    for place, (name, path) in enumerate(zip(catalogue.ids, catalogue.paths, strict=True)):
        seen = before.files[before.row[name]] if before.known and name in before.row else None
        if seen is not None and seen[1:] == _stat(catalogue.root / path):
            files[place] = seen
        else:
            ask.append(place)
    known = parts.known | before.by_digest.keys()
    found: dict[int, tuple[_File, bytes | None] | str] = {}

    def load(rows: slice) -> Any:
        new: list[Image.Image] = []
        for place in ask[rows]:
            found[place] = _load(catalogue.root / catalogue.paths[place], known, new)
        return model.encoder.load_images(new) if new else None

    def encode(loaded: Any) -> Tensor:
        if loaded is None:
            return torch.empty(0, model.head.config.d_image)
        return model.encoder.encode_images(loaded)

    batches = encode_batches(model.encoder, ask, load, encode, batch, workers)
    with (
        tqdm(total=len(catalogue), initial=len(files), desc="index", unit="picture") as bar,
        closing(batches),
    ):
        for places, features in batches:
            new: list[tuple[str, bytes]] = []
            for place in places:
                one = found.pop(place)
                if isinstance(one, str):
                    changes.unreadable[catalogue.paths[place]] = one
                    continue
                files[place], thumbnail = one
                if thumbnail is not None:
                    new.append((one[0].sha256, thumbnail))
            if not np.isfinite(features).all() or np.abs(features).max(initial=0) > _LARGEST:
                raise UserError("the encoder gave a feature that float16 cannot hold")
            parts.add([s for s, _ in new], features.astype(np.float16), [t for _, t in new])
            changes.encoded += len(new)
            bar.update(len(places))
    parts.flush()
    return files, changes


def _stat(path: Path) -> tuple[int, int] | None:
    """Size and time of a file; None where it is missing."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _load(
    path: Path, known: AbstractSet[str], new: list[Image.Image]
) -> tuple[_File, bytes | None] | str:
    """A file, its thumbnail where its content is not known, or why it cannot be read.

    A picture that is to be encoded is added to `new`.
    """
    try:
        content = read_bytes(path, MAX_BYTES, "check the file")
        stat = path.stat()
        file = _File(hashlib.sha256(content).hexdigest(), stat.st_size, stat.st_mtime_ns)
        if file.sha256 in known:
            return file, None
        picture = open_rgb(content)
    except (UserError, OSError) as error:
        return str(error)
    new.append(picture)
    return file, _thumbnail(picture)


def _thumbnail(picture: Image.Image) -> bytes:
    share = min(1.0, THUMBNAIL / max(picture.size))
    size = [max(1, round(share * side)) for side in picture.size]
    small = picture.resize((size[0], size[1]), Image.Resampling.BICUBIC, reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _compare(
    catalogue: Catalogue, before: _Before, files: Mapping[int, _File], changes: Changes
) -> tuple[list[int], list[str]]:
    """Places of the catalogue to be written, and ids of the index that no longer count."""
    both = [place for place in sorted(files) if catalogue.ids[place] in before.row]
    rows = [before.row[catalogue.ids[place]] for place in both]
    like = _like(catalogue.attributes, both, before.attributes, rows)
    stays: set[int] = set()
    for place, row, alike in zip(both, rows, like, strict=True):
        same_content = before.files[row].sha256 == files[place].sha256
        changes.changed += not (same_content and alike)
        changes.kept += same_content and alike
        same_file = before.files[row] == files[place]
        if before.same and alike and same_file and before.paths[row] == catalogue.paths[place]:
            stays.add(place)
    names = {catalogue.ids[place] for place in stays}
    removed = [name for name in before.row if name not in names]
    there = {catalogue.ids[place] for place in both}
    changes.removed = sum(name not in there for name in before.row)
    changes.added = len(files) - len(both)
    return [place for place in sorted(files) if place not in stays], removed


def _like(new: pa.Table, rows: Sequence[int], old: pa.Table, old_rows: Sequence[int]) -> list[bool]:
    """Whether rows of two tables of attributes are equal."""
    if new.schema != old.schema:
        return [False] * len(rows)
    if not new.column_names:
        return [True] * len(rows)
    ours, theirs = taken(new, rows), taken(old, old_rows)
    if ours.equals(theirs):
        return [True] * len(rows)
    return [a == b for a, b in zip(ours.to_pylist(), theirs.to_pylist(), strict=True)]


class _Blocks:
    """The pictures to be written, out of the old index and the parts."""

    def __init__(
        self,
        catalogue: Catalogue,
        before: _Before,
        files: Mapping[int, _File],
        written: Sequence[int],
        model: Model,
        parts: Parts,
    ) -> None:
        self.catalogue, self.before, self.files = catalogue, before, files
        self.written, self.model, self.parts = written, model, parts
        width = model.head.config.d_image
        self.sum, self.count = np.zeros(width), 0

    def __len__(self) -> int:
        return len(self.written)

    def __iter__(self) -> Iterator[Block]:
        """Every picture once; the unit features of those out of parts are summed."""
        copied: dict[int, list[tuple[int, int]]] = defaultdict(list)
        waiting: dict[str, list[int]] = defaultdict(list)
        for place in self.written:
            digest = self.files[place].sha256
            if digest in self.before.by_digest:
                segment, row = self.before.by_digest[digest]
                copied[segment].append((row, place))
            else:
                waiting[digest].append(place)
        for segment, pairs in copied.items():
            assert self.before.index is not None
            source = self.before.index.segments[segment]
            for start in range(0, len(pairs), _ROWS):
                rows, places = zip(*pairs[start : start + _ROWS], strict=True)
                thumbnails = [source.thumbnail(row) for row in rows]
                yield self._block(places, source.features[list(rows)], thumbnails)
        for digests, features, thumbnails in self.parts:
            found = [
                (row, place)
                for row, digest in enumerate(digests)
                for place in waiting.pop(digest, ())
            ]
            if found:
                rows, places = zip(*found, strict=True)
                own = features[list(rows)]
                yield self._block(places, own, [thumbnails[row] for row in rows])
                unit = own / np.linalg.norm(own.astype(np.float64), axis=1, keepdims=True)
                self.sum += unit.sum(0)
                self.count += len(own)

    def _block(
        self, places: Sequence[int], features: Vectors, thumbnails: Sequence[bytes]
    ) -> Block:
        files = [self.files[place] for place in places]
        columns = [
            [self.catalogue.ids[place] for place in places],
            [self.catalogue.paths[place] for place in places],
            *(list(column) for column in zip(*files, strict=True)),
        ]
        vectors = self.model.encode_gallery(torch.from_numpy(features.astype(np.float32)))
        return Block(
            pa.table(columns, schema=PICTURE),
            taken(self.catalogue.attributes, places),
            vectors.cpu().numpy().astype(np.float16),
            features,
            thumbnails,
        )


def _commit(
    folder: Path,
    source: str,
    model: Model,
    engine: EngineName,
    before: _Before,
    removed: Sequence[str],
    blocks: _Blocks,
) -> Index:
    old = before.index
    carried = old.manifest if old is not None and before.known else None

    def manifest() -> Manifest:
        """What is true once all blocks are written."""
        sums = np.array(carried.feature_sum) if carried else 0
        return Manifest(
            model=model.key,
            features=model.features_key,
            dim=model.dim,
            d_image=model.head.config.d_image,
            source=source,
            engine=engine,
            feature_sum=(sums + blocks.sum).tolist(),
            feature_count=(carried.feature_count if carried else 0) + blocks.count,
        )

    return commit(folder, old, manifest, removed, iter(blocks), len(blocks))


def recall(index: Index, queries: int = 100, k: int = 10) -> float:
    """Share of the exact k nearest that the index's own engine finds, in 0..1.

    The queries are means of two random pictures each: near the gallery, and none of it.
    """
    rng = np.random.default_rng(0)
    vectors = np.concatenate(
        [segment.vectors[rng.integers(0, len(segment), 2 * queries)] for segment in index.segments]
    )
    drawn = rng.permutation(vectors)[: 2 * queries].astype(np.float32)
    means = drawn.reshape(queries, 2, -1).mean(1)
    asked = means / np.linalg.norm(means, axis=1, keepdims=True).clip(1e-12)
    truth, own = index.exact.search(asked, k), index.engine.search(asked, k)
    # Of equal scores any will do; both are computed from float16.
    pairs = zip(truth, own, strict=True)
    found = [int((b.scores >= a.scores[-1] - 1e-4).sum()) / len(a.ids) for a, b in pairs]
    return float(np.mean(found))


def _write_unreadable(path: Path, unreadable: Mapping[str, str]) -> None:
    """List the pictures that were left out, or remove the list."""
    if not unreadable:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    csv.writer(text).writerows([("path", "reason"), *sorted(unreadable.items())])
    write_text(path, text.getvalue())
