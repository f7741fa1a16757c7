"""Update of an index to a catalogue: encode new and changed images, remove missing ones.

An image counts as unchanged if its file has the same path, size and time as before; otherwise its
SHA-256 decides, and images with a known SHA-256 are not encoded. If only attributes have changed,
they are rewritten without reading the images.
"""

import csv
import hashlib
import io
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from rau.datasets.shape import check_shape
from rau.digests import Digests, Lookup, digests
from rau.errors import UserError
from rau.evaluation.calibration import FILE
from rau.features.extraction import encode_batches
from rau.files import new_folder, read_bytes, write_text
from rau.pictures import MAX_BYTES, open_rgb
from rau.progress import tqdm
from rau.search.catalogue import Catalogue
from rau.search.difference import Before, Changes, File, Files, Mask, compare
from rau.search.engines.engine import Vectors
from rau.search.index import (
    MANIFEST,
    MODELS,
    PARTS,
    EngineName,
    Index,
    Manifest,
    Rows,
    commit,
    writing,
)
from rau.search.model import Model
from rau.search.parts import Parts
from rau.search.segments import IMAGES, Block, taken
from rau.search.thumbnails import thumbnail

UNREADABLE = "unreadable.csv"
# Pixels of a thumbnail's longer side.
THUMBNAIL = 256
_ROWS = 4096
_LARGEST = float(np.finfo(np.float16).max)


def build(
    folder: Path,
    catalogue: Catalogue,
    model: Model,
    engine: EngineName,
    batch: int,
    workers: int,
    renew: bool = False,
) -> tuple[Index, Changes]:
    """Update an index to a catalogue; if this fails, the index remains as it was.

    Args:
        folder: the index's folder, created if it is missing.
        batch: number of images in one forward pass, of all workers together.
        workers: number of threads that decode images and, on a CPU, encode them.
        renew: replace the model of an index, keeping its features if the encoder is the same.

    Raises:
        UserError: if the index is of another model, shares no image with the catalogue or is being
            written to, or if no image can be read.
    """
    with writing(folder):
        old = Index.open(folder) if (folder / MANIFEST).exists() else None
        before = Before.of(old, model, catalogue)
        _check(before, catalogue, model, renew)
        parts = Parts(folder / PARTS, model.features_key)
        unchanged = before.unchanged(catalogue)
        files, changes = _read(catalogue, before, unchanged, model, parts, batch, workers)
        written, removed = compare(catalogue, before, unchanged, files, changes)
        if len(changes.unreadable) == len(catalogue) + len(catalogue.unreadable):
            path, reason = next(iter(changes.unreadable.items()))
            raise UserError(f"no image can be read; {path}: {reason}")
        copy = folder / MODELS / model.key
        if not copy.exists():
            with new_folder(copy) as temporary:
                model.copy_to(temporary)
        elif (fitted := model.calibration) is not None:  # It may have been refitted.
            fitted.write(copy / FILE)
        blocks = _Blocks(catalogue, before, files, written, model, parts)
        index = _commit(folder, catalogue.source, model, engine, before, removed, blocks)
        _write_unreadable(folder / UNREADABLE, changes.unreadable)
        parts.clear()
    return index, changes


def _check(before: Before, catalogue: Catalogue, model: Model, renew: bool) -> None:
    """Reject a build that would mix models, or empty an index by mistake."""
    old = before.index
    if old is None:
        return
    if not before.same and not renew:
        raise UserError(
            f"{old.folder} was built with another model (key {old.manifest.model[:8]}, this model "
            f"has {model.key[:8]}); choose that model with --model, or rebuild it with --renew"
        )
    if (before.row < 0).all():
        raise UserError(
            f"{catalogue.source} contains none of the {len(old):,} images of {old.folder}, which "
            f"was built from {old.manifest.source}; use that catalogue, or remove {old.folder}"
        )


def _read(
    catalogue: Catalogue,
    before: Before,
    unchanged: Mask,
    model: Model,
    parts: Parts,
    batch: int,
    workers: int,
) -> tuple[Files, Changes]:
    """Read files that may have changed and encode unknown ones; returns the files read."""
    ask = array("q", np.flatnonzero(~unchanged).tobytes())
    files = Files(len(catalogue))
    changes = Changes(unreadable={**catalogue.unreadable})
    known = parts.known, before.contents
    found: dict[int, tuple[File, bytes | None] | str] = {}

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
    done = len(catalogue) - len(ask)
    with (
        tqdm(total=len(catalogue), initial=done, desc="index", unit="image") as bar,
        closing(batches),
    ):
        for places, features in batches:
            new: list[tuple[str, bytes]] = []
            for place in places:
                one = found.pop(place)
                if isinstance(one, str):
                    changes.unreadable[catalogue.paths[place]] = one
                    continue
                files[place], small = one
                if small is not None:
                    new.append((one[0].sha256, small))
            if not np.isfinite(features).all() or np.abs(features).max(initial=0) > _LARGEST:
                raise UserError("the encoder gave a feature that float16 cannot hold")
            parts.add([s for s, _ in new], features.astype(np.float16), [t for _, t in new])
            changes.encoded += len(new)
            bar.update(len(places))
    parts.flush()
    return files, changes


def _load(
    path: Path, known: Sequence[Lookup], new: list[Image.Image]
) -> tuple[File, bytes | None] | str:
    """A file and, if its content is unknown, its thumbnail; or why it cannot be read.

    Images to be encoded are added to `new`.
    """
    try:
        # Size and time first: if the file is replaced meanwhile, the next build reads it again.
        stat = path.stat()
        content = read_bytes(path, MAX_BYTES, "check the file")
        file = File(hashlib.sha256(content).hexdigest(), stat.st_size, stat.st_mtime_ns)
        if any(file.sha256 in own for own in known):
            return file, None
        image = open_rgb(content)
        check_shape(image)
    except UserError as error:
        return str(error)
    except OSError as error:
        return f"{error.strerror or error}; check the file"
    new.append(image)
    return file, thumbnail(image, THUMBNAIL)


class _Blocks:
    """The images to be written, from the old index and the parts."""

    def __init__(
        self,
        catalogue: Catalogue,
        before: Before,
        files: Files,
        written: Rows,
        model: Model,
        parts: Parts,
    ) -> None:
        self.catalogue, self.before, self.model, self.parts = catalogue, before, model, parts
        self.files, self.written = files, written
        rest = written[~files.there[written]]
        for start in range(0, len(rest), _ROWS):
            own = rest[start : start + _ROWS]
            for place, file in zip(own.tolist(), before.files(before.row[own]), strict=True):
                files[place] = file
        width = model.head.config.d_image
        self.sum, self.count = np.zeros(width), 0

    def __len__(self) -> int:
        return len(self.written)

    def __iter__(self) -> Iterator[Block]:
        """Iterate over all images once, and sum the unit features of those from parts."""
        keys = digests(self.files[place].sha256 for place in self.written.tolist())
        old = self.before.contents.find(keys)
        yield from self._copied(self.written[old >= 0], old[old >= 0])
        yield from self._encoded(self.written[old < 0], keys[old < 0])

    def _copied(self, places: Rows, rows: Rows) -> Iterator[Block]:
        """Blocks of images with features in the old index, at these rows of it."""
        segments, rows = self.before.places[rows].T
        for number in np.unique(segments).tolist():
            assert self.before.index is not None
            source = self.before.index.segments[number]
            own = np.flatnonzero(segments == number)
            for start in range(0, len(own), _ROWS):
                some = own[start : start + _ROWS]
                thumbnails = [source.thumbnail(row) for row in rows[some].tolist()]
                yield self._block(places[some].tolist(), source.features[rows[some]], thumbnails)

    def _encoded(self, places: Rows, keys: Digests) -> Iterator[Block]:
        """Blocks of images with features in the parts; several may have one content."""
        order = keys.argsort(kind="stable")
        places, keys = places[order], keys[order]
        waiting = np.ones(len(keys), np.bool_)
        for names, features, thumbnails in self.parts:
            own = digests(names)
            first, last = (keys.searchsorted(own, side) for side in ("left", "right"))
            found: list[tuple[int, int]] = []
            for row, (start, end) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
                if start < end and waiting[start]:
                    waiting[start] = False
                    found += ((row, place) for place in places[start:end].tolist())
            if found:
                taken_rows, of = map(list, zip(*found, strict=True))
                own_features = features[taken_rows]
                yield self._block(of, own_features, [thumbnails[row] for row in taken_rows])
                norm = np.linalg.norm(own_features.astype(np.float64), axis=1, keepdims=True)
                self.sum += (own_features / norm).sum(0)
                self.count += len(of)

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
            pa.table(columns, schema=IMAGES),
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
    before: Before,
    removed: Sequence[str],
    blocks: _Blocks,
) -> Index:
    old = before.index
    carried = old.manifest if old is not None and before.known else None

    def manifest() -> Manifest:
        """The manifest; valid after all blocks are written."""
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


def _write_unreadable(path: Path, unreadable: Mapping[str, str]) -> None:
    """Write the list of unreadable images, or remove it if there are none."""
    if not unreadable:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    csv.writer(text).writerows([("path", "reason"), *sorted(unreadable.items())])
    write_text(path, text.getvalue())
