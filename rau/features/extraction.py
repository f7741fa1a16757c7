"""Features of many images and texts: threads load batches, and on a CPU encode them.

Where forward passes run on the cores, every thread decodes and encodes batches of its own on one
core. Beside a GPU, threads load the next batches while it computes.
"""

import hashlib
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from rau.ahead import ahead
from rau.devices import threads
from rau.encoders.clip import Encoder
from rau.errors import UserError
from rau.features.table import Matrix
from rau.files import read_bytes
from rau.pictures import MAX_BYTES


class Item(NamedTuple):
    """One thing to encode: its name in the table, the key of its content, and itself.

    An image's key is the SHA-256 of its file, a text's the text.
    """

    name: str
    key: str
    content: Path | str


Encoded = Generator[tuple[Sequence[Item], Matrix], None, None]


def encode_images(encoder: Encoder, items: Sequence[Item], batch: int, workers: int) -> Encoded:
    """Features (B, d_image) of the items, B after B, in their order.

    Args:
        batch: images in one forward pass, of all workers together.
        workers: threads that decode; on a CPU they encode too.

    Raises:
        UserError: when a file is not a whole image, or not the one whose SHA-256 is the item's key.
    """
    decode = partial(_decode, encoder, items)
    return _encode(encoder, items, decode, encoder.encode_images, batch, workers)


def encode_texts(encoder: Encoder, items: Sequence[Item], batch: int, workers: int) -> Encoded:
    """Features (B, d_text) of the items, B after B, texts of similar length together.

    Args:
        batch: texts in one forward pass, of all workers together.
        workers: threads; on a CPU they encode.
    """
    tokens, lengths = encoder.tokenise([str(item.content) for item in items])
    # The longest first: workers that end apart then wait for a short batch.
    lengths, order = lengths.sort(stable=True, descending=True)
    cut = partial(_cut, tokens[order], lengths)
    by_length = [items[row] for row in order.tolist()]
    return _encode(encoder, by_length, cut, encoder.encode_tokens, batch, workers)


def _decode(encoder: Encoder, items: Sequence[Item], rows: slice) -> Tensor:
    return torch.stack([encoder.prepare(verified(item)) for item in items[rows]])


def verified(item: Item) -> bytes:
    """The bytes of an image, those whose SHA-256 is the item's key and no others."""
    remedy = "run `dvc repro --force --single-item download`"
    content = read_bytes(Path(item.content), MAX_BYTES, remedy)
    if hashlib.sha256(content).hexdigest() != item.key:
        raise UserError(f"{item.content} has changed since `download` verified it; {remedy}")
    return content


def _cut(tokens: Tensor, lengths: Tensor, rows: slice) -> Tensor:
    """Tokens (B, L), L no longer than the longest of them needs."""
    return tokens[rows, : int(lengths[rows].max())].contiguous()


def _encode(
    encoder: Encoder,
    items: Sequence[Item],
    load: Callable[[slice], Tensor],
    encode: Callable[[Tensor], Tensor],
    batch: int,
    workers: int,
) -> Encoded:
    """Encode in the workers on a CPU, in this thread on any other device."""
    on_cpu = encoder.device.type == "cpu"
    size = max(1, batch // workers) if on_cpu else batch

    def work(rows: slice) -> Tensor:
        loaded = load(rows)
        if on_cpu:
            return encode(loaded)
        return loaded.pin_memory() if encoder.device.type == "cuda" else loaded

    batches = [slice(start, start + size) for start in range(0, len(items), size)]
    with (
        threads(1) if on_cpu else nullcontext(),
        closing(ahead(work, batches, workers)) as results,
    ):
        for rows, result in zip(batches, results, strict=True):
            yield items[rows], (result if on_cpu else encode(result)).numpy()
