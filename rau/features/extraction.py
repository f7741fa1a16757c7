"""Features of many pictures and texts: decoding, forward passes and copies side by side.

Where forward passes run on the cores, every worker decodes and encodes pieces of its own with its
share of the threads: no core waits for another, and the cores are never oversubscribed. Beside
another device, workers decode ahead of it, and what it computed is fetched one batch late.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from rau.devices import threads
from rau.encoders.clip import Encoder, prepare
from rau.features.table import Matrix

# Texts whose lengths are sorted together, in batches.
WINDOW = 64

In = TypeVar("In")
Out = TypeVar("Out")


class Item(NamedTuple):
    """One thing to encode: its name in the table, the key of its content, and itself."""

    name: str
    key: str
    content: Path | str


Encoded = Generator[tuple[Sequence[Item], Matrix], None, None]


def encode_images(encoder: Encoder, items: Sequence[Item], batch: int, workers: int) -> Encoded:
    """Features (B, d_image) of the items, B after B, in their order.

    Args:
        batch: pictures in one forward pass, of all workers together.
        workers: decoding threads; on a CPU they encode too.
    """
    if not _shares_cores(encoder):
        return _beside(encoder, items, batch, workers)

    def work(piece: Sequence[Item]) -> Matrix:
        pictures = encoder.stage([_picture(encoder, item) for item in piece])
        return encoder.encode_images(pictures).numpy()

    return _on_cores(work, _pieces(items, max(1, batch // workers)), workers)


def encode_texts(encoder: Encoder, items: Sequence[Item], batch: int, workers: int) -> Encoded:
    """Features (B, d_text) of the items, B after B, those of like length together.

    Args:
        batch: texts in one forward pass, of all workers together.
        workers: on a CPU, threads that encode.
    """
    if not _shares_cores(encoder):
        sorted_pieces = _by_length(encoder, items, batch)
        pending = ((piece, encoder.start_texts(tokens)) for piece, tokens in sorted_pieces)
        return ((piece, fetch().numpy()) for piece, fetch in _late(pending))

    def work(piece: tuple[Sequence[Item], Tensor]) -> Matrix:
        return encoder.start_texts(piece[1])().numpy()

    pieces = _by_length(encoder, items, max(1, batch // workers))
    return ((piece, rows) for (piece, _), rows in _on_cores(work, pieces, workers))


def _shares_cores(encoder: Encoder) -> bool:
    return encoder.device.type == "cpu"


def _picture(encoder: Encoder, item: Item) -> Tensor:
    return prepare(encoder, Path(item.content))


def _pieces(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _by_length(
    encoder: Encoder, items: Sequence[Item], size: int
) -> Iterator[tuple[Sequence[Item], Tensor]]:
    """Items and their tokens (size, L), L no longer than the longest of them needs."""
    for window in _pieces(items, WINDOW * size):
        tokens, lengths = encoder.tokenise([str(item.content) for item in window])
        # The longest first: workers that end apart then wait for a short piece.
        lengths, order = lengths.sort(stable=True, descending=True)
        tokens, longest = tokens[order], lengths.tolist()
        ordered = [window[row] for row in order.tolist()]
        for start in range(0, len(window), size):
            piece = slice(start, start + size)
            yield ordered[piece], tokens[piece, : longest[start]].contiguous()


@contextmanager
def _pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that, when the block is left early, finish what they are at and no more."""
    pool = ThreadPoolExecutor(workers)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _on_cores(
    work: Callable[[In], Out], pieces: Iterable[In], workers: int
) -> Generator[tuple[In, Out], None, None]:
    each = max(1, torch.get_num_threads() // workers)
    with threads(each), _pool(workers) as pool:
        yield from _ahead(pool, work, pieces, 2 * workers)


def _beside(encoder: Encoder, items: Sequence[Item], batch: int, workers: int) -> Encoded:
    with _pool(workers) as pool:
        decoded = _ahead(pool, lambda item: _picture(encoder, item), items, 2 * batch)

        def started() -> Iterator[tuple[list[Item], Callable[[], Tensor]]]:
            while ready := list(islice(decoded, batch)):
                pictures = encoder.stage([picture for _, picture in ready])
                yield [item for item, _ in ready], encoder.start_images(pictures)

        for piece, fetch in _late(started()):
            yield piece, fetch().numpy()


def _late(things: Iterable[Any]) -> Iterator[Any]:
    """The same things, each after the next one was made."""
    waiting: deque[Any] = deque()
    for thing in things:
        waiting.append(thing)
        if len(waiting) > 1:
            yield waiting.popleft()
    yield from waiting


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[In], Out], things: Iterable[In], depth: int
) -> Iterator[tuple[In, Out]]:
    """Work on things on the pool, at most `depth` of them before they are asked for."""
    waiting: deque[tuple[In, Future[Out]]] = deque()
    for thing in things:
        waiting.append((thing, pool.submit(work, thing)))
        if len(waiting) >= depth:
            first, future = waiting.popleft()
            yield first, future.result()
    for thing, future in waiting:
        yield thing, future.result()
