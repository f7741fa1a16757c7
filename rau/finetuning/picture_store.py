"""Decoded pictures in a mapped file that grows: whatever run needs one, it is decoded once."""

import math
import os
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from rau.encoders.clip import Encoder
from rau.errors import UserError
from rau.features.item import Item, verified
from rau.files import digest, write_json
from rau.finetuning.pictures import CHUNK, DecodedPictures, Pictures, Steps
from rau.params import Section
from rau.progress import tqdm

# Raise it when decoding changes.
RECIPE = 2
SAVE_EVERY = 1024
# Of the free space of a disk, what `picture_cache: auto` may take.
SHARE_OF_DISK = 0.5
MAX_INDEX_BYTES = 1 << 30


class Index(Section):
    """What a store holds: the shape of a picture, and the SHA-256 of every one's file, by row."""

    shape: tuple[int, int, int]
    keys: list[str]

    @property
    def picture_bytes(self) -> int:
        """Of one picture."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class CachedPictures:
    """Pictures of a store.

    Attributes:
        mapped: all of the store, (M, height, width, 3).
        places: the row of each picture there, (N,).
    """

    mapped: NDArray[np.uint8]
    places: Tensor

    def steps(self, rows: Sequence[Tensor], seed: int) -> Steps:
        """The pictures of each step's rows; only those of a slice are read."""
        for own in rows:
            yield partial(self._read, own)

    def _read(self, rows: Tensor, part: slice) -> Tensor:
        return torch.from_numpy(self.mapped[self.places[rows[part]].numpy()])


def load(
    folder: Path,
    encoder: Encoder,
    items: Sequence[Item],
    augment: Sequence[str],
    cache: str,
    workers: int,
    quiet: bool = False,
) -> Pictures:
    """Pictures of the items, from a store where that is asked for or fits.

    Args:
        folder: of stores, one for each way to resize and crop.
        augment: names of random changes; changed pictures are never stored.
        cache: `auto`, `always` or `never`.
        workers: threads that decode.
        quiet: do not print that there are too many pictures for `auto` to store.

    Raises:
        UserError: a picture that cannot be read, a disk that is too small, a damaged store.
    """
    decoded = DecodedPictures(encoder, items, augment, workers)
    if cache == "never" or augment:
        return decoded
    path = folder / f"{digest([RECIPE, repr(encoder.preprocess)], 16)}.bin"
    folder.mkdir(parents=True, exist_ok=True)
    # Another experiment that needs the same pictures waits for them.
    with FileLock(path.with_suffix(".lock")):
        index = _read_index(path)
        known = set(index.keys) if index else set()
        missing = {item.key: item for item in items if item.key not in known}
        if missing:
            if index is None:
                height, width, colours = encoder.prepare(verified(items[0])).shape
                index = Index(shape=(height, width, colours), keys=[])
            size = len(missing) * index.picture_bytes
            reserved = path.stat().st_size if path.exists() else 0
            new = size + len(index.keys) * index.picture_bytes - reserved
            if cache == "auto" and new > SHARE_OF_DISK * shutil.disk_usage(folder).free:
                if not quiet:
                    gigabytes = f"{size / 2**30:.1f} GiB"
                    print(f"{gigabytes} of pictures do not fit {folder}: decoded each step")
                return decoded
            index = _grow(path, index, replace(decoded, items=list(missing.values())))
    assert index is not None
    rows = {key: row for row, key in enumerate(index.keys)}
    mapped = np.memmap(path, np.uint8, "r", shape=(len(rows), *index.shape))
    return CachedPictures(mapped, torch.tensor([rows[item.key] for item in items]))


def _read_index(path: Path) -> Index | None:
    note = path.with_suffix(".json")
    if not path.exists() or not note.exists():
        return None
    remedy = f"remove {path}"
    index = Index.read_json(note, MAX_INDEX_BYTES, remedy)
    if path.stat().st_size < len(index.keys) * index.picture_bytes:
        raise UserError(f"{path} is shorter than its index says; {remedy}")
    return index


def _grow(path: Path, index: Index, new: DecodedPictures) -> Index:
    """Append pictures. The index is written after them: what a kill leaves is written over."""
    keys, total = list(index.keys), len(index.keys) + len(new.items)
    size = total * index.picture_bytes
    with path.open("ab") as file:
        file.truncate(max(size, file.tell()))
        if hasattr(os, "posix_fallocate"):  # macOS has none.
            # A full disk is an error here, where it would be a signal in the middle of a write.
            os.posix_fallocate(file.fileno(), 0, size)
    mapped = np.memmap(path, np.uint8, "r+", shape=(total, *index.shape))
    chunks = torch.split(torch.arange(len(new.items)), CHUNK)
    title = f"decode {len(new.items) * index.picture_bytes / 2**20:,.0f} MiB"
    with (
        tqdm(total=len(new.items), desc=title, unit="picture") as bar,
        closing(new.steps(chunks, 0)) as steps,
    ):
        for rows, loaded in zip(chunks, steps, strict=True):
            mapped[len(keys) : len(keys) + len(rows)] = loaded(slice(None)).numpy()
            keys += [new.items[row].key for row in rows.tolist()]
            bar.update(len(rows))
            if len(keys) == total or len(keys) // SAVE_EVERY > len(index.keys) // SAVE_EVERY:
                mapped.flush()
                index = Index(shape=index.shape, keys=keys)
                write_json(path.with_suffix(".json"), index.model_dump())
    return index
