"""Features of many images and texts: worker processes load batches, and on a CPU encode them.

Where forward passes run on the cores, every worker decodes and encodes batches of its own on one
core. Beside a GPU, workers load the next batches while it computes.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rau.encoders.clip import Encoder
from rau.errors import UserError
from rau.features.table import Matrix


class Item(NamedTuple):
    """One thing to encode: its name in the table, the key of its content, and itself."""

    name: str
    key: str
    content: Path | str


Encoded = Generator[tuple[Sequence[Item], Matrix], None, None]


def encode_images(encoder: Encoder, items: Sequence[Item], batch: int, workers: int) -> Encoded:
    """Features (B, d_image) of the items, B after B, in their order.

    Args:
        batch: images in one forward pass, of all workers together.
        workers: processes that decode; on a CPU they encode too.

    Raises:
        UserError: when a file is not a whole image.
    """
    decode = partial(_decode, encoder, items)
    return _encode(encoder, items, decode, encoder.encode_images, batch, workers)


def encode_texts(encoder: Encoder, items: Sequence[Item], batch: int, workers: int) -> Encoded:
    """Features (B, d_text) of the items, B after B, texts of similar length together.

    Args:
        batch: texts in one forward pass, of all workers together.
        workers: processes; on a CPU they encode.
    """
    tokens, lengths = encoder.tokenise([str(item.content) for item in items])
    # The longest first: workers that end apart then wait for a short batch.
    lengths, order = lengths.sort(stable=True, descending=True)
    cut = partial(_cut, tokens[order], lengths)
    by_length = [items[row] for row in order.tolist()]
    return _encode(encoder, by_length, cut, encoder.encode_tokens, batch, workers)


def _decode(encoder: Encoder, items: Sequence[Item], rows: slice) -> Tensor:
    return torch.stack([encoder.prepare(Path(item.content)) for item in items[rows]])


def _cut(tokens: Tensor, lengths: Tensor, rows: slice) -> Tensor:
    """Tokens (B, L), L no longer than the longest of them needs."""
    return tokens[rows, : int(lengths[rows].max())].contiguous()


@dataclass(frozen=True)
class _Batches(Dataset[Tensor | UserError]):
    """Batches of rows, loaded, and encoded where there is something to encode them with."""

    rows: Sequence[slice]
    load: Callable[[slice], Tensor]
    encode: Callable[[Tensor], Tensor] | None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor | UserError:
        try:
            loaded = self.load(self.rows[index])
        except UserError as error:
            # As a value: raised in a worker, its message would come with a traceback.
            return error
        return loaded if self.encode is None else self.encode(loaded)


def _encode(
    encoder: Encoder,
    items: Sequence[Item],
    load: Callable[[slice], Tensor],
    encode: Callable[[Tensor], Tensor],
    batch: int,
    workers: int,
) -> Encoded:
    """Encode in the workers on a CPU, in this process on any other device."""
    on_cpu = encoder.device.type == "cpu"
    size = max(1, batch // workers) if on_cpu else batch
    batches = [slice(start, start + size) for start in range(0, len(items), size)]
    results = DataLoader(
        _Batches(batches, load, encode if on_cpu else None),
        batch_size=None,
        # A single worker on a CPU would have nothing to work beside.
        num_workers=0 if on_cpu and workers == 1 else min(workers, len(batches)),
        pin_memory=encoder.device.type == "cuda",
    )
    for rows, result in zip(batches, results, strict=True):
        if isinstance(result, UserError):
            raise result
        yield items[rows], (result if on_cpu else encode(result)).numpy()
