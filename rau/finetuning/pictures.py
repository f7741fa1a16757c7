"""Pictures as uint8 tensors for training, decoded once into a mapped file or ahead of each step."""

import json
import os
import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from filelock import FileLock
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from rau.ahead import ahead
from rau.encoders.clip import Encoder
from rau.features.extraction import Item, verified
from rau.files import digest, write_json
from rau.finetuning.augmentation import Augmentation

# Raise it when decoding changes.
RECIPE = 1
CHUNK = 64  # pictures that a thread decodes at a time
SAVE_EVERY = 1024
# Of the free space of a disk, what `picture_cache: auto` may take.
SHARE_OF_DISK = 0.5
# Pictures of a step, by slices of its rows: uint8 (n, height, width, 3).
Loaded = Callable[[slice], Tensor]
Steps = Generator[Loaded]


class Pictures(Protocol):
    """Pictures by row, for one step after the other."""

    def steps(self, rows: Sequence[Tensor], seed: int) -> Steps:
        """The pictures of each step's rows; `seed` is that of random changes."""
        ...


@dataclass(frozen=True)
class CachedPictures:
    """All pictures in a mapped file, (N, height, width, 3)."""

    mapped: NDArray[np.uint8]

    def steps(self, rows: Sequence[Tensor], seed: int) -> Steps:
        """The pictures of each step's rows; only those of a slice are read."""
        for own in rows:
            yield partial(self._read, own)

    def _read(self, rows: Tensor, part: slice) -> Tensor:
        return torch.from_numpy(self.mapped[rows[part].numpy()])


@dataclass(frozen=True)
class DecodedPictures:
    """Pictures decoded for every step anew, by threads ahead of the device.

    Attributes:
        augment: names of random changes.
        workers: threads.
    """

    encoder: Encoder
    items: Sequence[Item]
    augment: Sequence[str]
    workers: int

    def steps(self, rows: Sequence[Tensor], seed: int) -> Steps:
        """The pictures of each step's rows."""
        change = Augmentation(self.augment)

        def decode(chunk: Tensor) -> Tensor:
            pictures = [self.encoder.prepare(verified(self.items[row])) for row in chunk.tolist()]
            if self.augment:
                changes = zip(pictures, chunk.tolist(), strict=True)
                pictures = [change(picture, seed, row) for picture, row in changes]
            return torch.stack(pictures)

        # Not whole steps: of those two a thread would be held.
        chunks = [torch.split(step, CHUNK) if len(step) else () for step in rows]
        jobs = (chunk for step in chunks for chunk in step)
        with closing(ahead(decode, jobs, self.workers)) as decoded:
            for step in chunks:
                pictures = torch.cat([next(decoded) for _ in step]) if step else torch.empty(0)
                # Out of pinned memory the host does not wait for the copy.
                pinned = self.encoder.device.type == "cuda"
                yield (pictures.pin_memory() if pinned else pictures).__getitem__


def load(
    folder: Path,
    encoder: Encoder,
    items: Sequence[Item],
    augment: Sequence[str],
    cache: str,
    workers: int,
    tell: Callable[[str], None] = print,
) -> Pictures:
    """Pictures of the items, from a mapped file where that is asked for or fits.

    Args:
        folder: of mapped files, shared by all runs.
        augment: names of random changes; changed pictures are never cached.
        cache: `auto`, `always` or `never`.
        workers: threads that decode.
        tell: shows the size before anything is decoded.

    Raises:
        UserError: a picture that cannot be read, a disk that is too small.
    """
    decoded = DecodedPictures(encoder, items, augment, workers)
    if cache == "never" or augment:
        return decoded
    key = digest([RECIPE, [item.key for item in items], repr(encoder.preprocess)], 16)
    path = folder / f"{key}.npy"
    folder.mkdir(parents=True, exist_ok=True)
    # Another experiment that needs the same pictures waits for them.
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            one = encoder.prepare(verified(items[0]))
            size = len(items) * one.numel()
            free = shutil.disk_usage(folder).free
            begun = path.with_suffix(".part").exists()
            if cache == "auto" and not begun and size > SHARE_OF_DISK * free:
                tell(f"{size / 2**30:.1f} GiB of pictures do not fit {folder}: decoded each step")
                return decoded
            tell(f"{len(items):,} pictures decoded once: {size / 2**20:,.0f} MiB in {path}")
            _decode(path, decoded, tuple(one.shape))
    return CachedPictures(np.load(path, mmap_mode="r"))


def _decode(path: Path, pictures: DecodedPictures, shape: tuple[int, ...]) -> None:
    """Fill the file, from where a stopped run left it."""
    unfinished, note = path.with_suffix(".part"), path.with_suffix(".json")
    count = len(pictures.items)
    done = json.loads(note.read_text())["done"] if note.exists() and unfinished.exists() else 0
    mode = "r+" if done else "w+"
    mapped = open_memmap(unfinished, mode, dtype=np.uint8, shape=(count, *shape))
    with unfinished.open("r+b") as file:
        # A full disk is an error here, where it would be a signal in the middle of a write.
        os.posix_fallocate(file.fileno(), 0, unfinished.stat().st_size)
    chunks = torch.split(torch.arange(done, count), CHUNK)
    with (
        tqdm(total=count, initial=done, desc="decode pictures", unit="picture") as bar,
        closing(pictures.steps(chunks, 0)) as steps,
    ):
        for rows, loaded in zip(chunks, steps, strict=True):
            mapped[rows.numpy()] = loaded(slice(None)).numpy()
            done += len(rows)
            bar.update(len(rows))
            if done % SAVE_EVERY == 0:
                mapped.flush()
                write_json(note, {"done": done})
    mapped.flush()
    del mapped
    unfinished.rename(path)
    note.unlink(missing_ok=True)
