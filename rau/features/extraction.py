"""Features of many images and texts: threads load batches, and on a CPU also encode them.

On a CPU, every thread decodes and encodes its own batches on one core. On a GPU, and with models
that are not thread-safe, threads load the next batches while one thread encodes.
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
    """Yield features (B, d_image) of the items in their order.

    Args:
        batch: number of images in one forward pass, of all workers together.
        workers: number of threads that decode and, on a CPU, encode.

    Raises:
        UserError: if a file is not a valid image, or its SHA-256 is not the item's key.
    """

    def load(rows: slice) -> Any:
        return encoder.load_images([verified(item) for item in items[rows]])

    return encode_batches(encoder, items, load, encoder.encode_images, batch, workers)


def encode_texts(
    encoder: Encoder, items: Sequence[Item], batch: int, workers: int
) -> Encoded[Item]:
    """Yield features (B, d_text) of the items, batched by length.

    Args:
        batch: number of texts in one forward pass, of all workers together.
        workers: number of threads that, on a CPU, encode.
    """
    order, load = encoder.by_length([str(item.content) for item in items])
    ordered = [items[row] for row in order]
    return encode_batches(encoder, ordered, load, encoder.encode_tokens, batch, workers)


def encode_pairs(
    encoder: Encoder, items: Sequence[Pair], batch: int, workers: int
) -> Encoded[Pair]:
    """Yield features (B, d_image) of pairs in their order, by an encoder that composes.

    Args and errors are those of `encode_images`.
    """
    encode = encoder.encode_pairs
    if encode is None:
        raise ValueError(f"{encoder.name} cannot encode an image together with a text")

    def load(rows: slice) -> Any:
        own = items[rows]
        return encoder.load_images([verified(pair.image) for pair in own]), [p.text for p in own]

    return encode_batches(encoder, items, load, lambda loaded: encode(*loaded), batch, workers)


# By the name of the feature table.
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
    """Yield batches of items with their features, encoded in the workers if the encoder is
    thread-safe, else in this thread.

    Args:
        load: returns the inputs for a slice of the items; called in threads.
        encode: returns the features of loaded inputs, float32 on the CPU.
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
