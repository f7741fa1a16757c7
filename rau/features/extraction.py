"""Features of many images and texts: threads load batches, and on a CPU encode them.

Where forward passes run on the cores, every thread decodes and encodes batches of its own on one
core. Elsewhere, and with models that threads cannot share, threads load the next batches while one
encodes.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext
from typing import Any, TypeVar

from torch import Tensor

from rau.ahead import ahead
from rau.devices import threads
from rau.encoders.encoder import Encoder
from rau.features.item import Item, verified
from rau.features.items import Kind, Pair
from rau.features.table import Matrix

T = TypeVar("T")
Encoded = Generator[tuple[Sequence[Kind], Matrix], None, None]


def encode_images(
    encoder: Encoder, items: Sequence[Item], batch: int, workers: int
) -> Encoded[Item]:
    """Features (B, d_image) of the items, B after B, in their order.

    Args:
        batch: images in one forward pass, of all workers together.
        workers: threads that decode; on a CPU they encode too.

    Raises:
        UserError: when a file is not a whole image, or not the one whose SHA-256 is the item's key.
    """

    def load(rows: slice) -> Any:
        return encoder.load_images([verified(item) for item in items[rows]])

    return encode_batches(encoder, items, load, encoder.encode_images, batch, workers)


def encode_texts(
    encoder: Encoder, items: Sequence[Item], batch: int, workers: int
) -> Encoded[Item]:
    """Features (B, d_text) of the items, B after B, texts of similar length together.

    Args:
        batch: texts in one forward pass, of all workers together.
        workers: threads; on a CPU they encode.
    """
    order, load = encoder.by_length([str(item.content) for item in items])
    ordered = [items[row] for row in order]
    return encode_batches(encoder, ordered, load, encoder.encode_tokens, batch, workers)


def encode_pairs(
    encoder: Encoder, items: Sequence[Pair], batch: int, workers: int
) -> Encoded[Pair]:
    """Features (B, d_image) of pairs, B after B, in their order, by an encoder that composes.

    Args and errors are those of `encode_images`.
    """
    encode = encoder.encode_pairs
    if encode is None:
        raise ValueError(f"{encoder.name} takes no picture together with a text")

    def load(rows: slice) -> Any:
        own = items[rows]
        return encoder.load_images([verified(pair.image) for pair in own]), [p.text for p in own]

    return encode_batches(encoder, items, load, lambda loaded: encode(*loaded), batch, workers)


# By the name of the table that the features go to.
ENCODE: dict[str, Callable[..., Encoded[Any]]] = {
    "images": encode_images,
    "texts": encode_texts,
    "pairs": encode_pairs,
}


def encode_batches(
    encoder: Encoder,
    items: Sequence[T],
    load: Callable[[slice], Any],
    encode: Callable[[Any], Tensor],
    batch: int,
    workers: int,
) -> Generator[tuple[Sequence[T], Matrix], None, None]:
    """Items and their features, B after B: encoded in the workers where the encoder can, else in
    this thread.

    Args:
        load: what is encoded of a slice of the items; work for threads.
        encode: features of what was loaded, float32 on the CPU.
        batch, workers: as in `encode_images`.
    """
    parallel = encoder.parallel
    size = max(1, batch // workers) if parallel else batch

    def work(rows: slice) -> Any:
        return encode(load(rows)) if parallel else load(rows)

    batches = [slice(start, start + size) for start in range(0, len(items), size)]
    with (
        threads(1) if parallel else nullcontext(),
        closing(ahead(work, batches, workers)) as results,
    ):
        for rows, result in zip(batches, results, strict=True):
            yield items[rows], (result if parallel else encode(result)).numpy()
