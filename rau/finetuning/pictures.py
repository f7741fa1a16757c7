"""Pictures as uint8 tensors for training, decoded ahead of each step."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from rau.ahead import ahead
from rau.encoders.clip import Encoder
from rau.features.item import Item, verified
from rau.finetuning.augmentation import Augmentation

CHUNK = 64  # pictures that a thread decodes at a time
# Pictures of a step, by slices of its rows: uint8 (n, height, width, 3). They are there until the
# next step is asked for.
Loaded = Callable[[slice], Tensor]
Steps = Generator[Loaded]


class Pictures(Protocol):
    """Pictures by row, for one step after the other."""

    def steps(self, rows: Sequence[Tensor], seed: int) -> Steps:
        """The pictures of each step's rows; `seed` is that of random changes."""
        ...


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
                held = [next(decoded) for _ in step]
                yield partial(self._joined, held)
                # Whoever asks for the next step may have this one's still.
                held.clear()

    def _joined(self, chunks: Sequence[Tensor], part: slice) -> Tensor:
        """A slice of a step's pictures, which all in one tensor would be held twice."""
        ends = list(accumulate(map(len, chunks), initial=0))
        start, stop, _ = part.indices(ends[-1])
        own = [
            c[max(0, start - at) : max(0, stop - at)] for at, c in zip(ends, chunks, strict=False)
        ]
        # A process may have no part in a step.
        none = self.encoder.crop(Image.new("RGB", (1, 1)))[None][:0]
        pictures = torch.cat([none, *own])
        # Out of pinned memory the host does not wait for the copy.
        return pictures.pin_memory() if self.encoder.device.type == "cuda" else pictures
