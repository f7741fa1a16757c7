"""What each training step reads: rows of the feature matrices.

All that an epoch needs is drawn and looked up before it begins; a step takes a slice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from rau.params import TrainParams
from rau.training.seeds import Stream, epoch_seed


@dataclass(frozen=True)
class TrainQueries:
    """Q train queries as rows of the feature matrices, on their device.

    Attributes:
        reference, target: rows of the image features, (Q,).
        texts: rows of the text features, (Q, 4); the first `text_count` of each are drawn from.
        text_count: (Q,).
        category: a number a category, (Q,), on the CPU.
        relevant: rows of the image features of all true answers, (Q, m), padded with `images`;
            None where not known.
        images: number of rows of the image features.
    """

    reference: Tensor
    target: Tensor
    texts: Tensor
    text_count: Tensor
    category: Tensor
    relevant: Tensor | None = None
    images: int = 0

    def __len__(self) -> int:
        return len(self.reference)

    def true_pairs(self, rows: Tensor, targets: Tensor) -> Tensor | None:
        """Which image of `targets` (B,) answers which query of `rows` (B,).

        Returns (B, B) of 1 and 0, rows are queries, or None where it is not known. Every image of
        the batch gets a place among its columns, and each query marks the places of its answers.
        """
        if self.relevant is None:
            return None
        count = len(rows)
        slot = targets.new_full((self.images + 1,), count)  # An extra column for all others.
        slot.scatter_(0, targets, torch.arange(count, device=rows.device))
        marked = torch.zeros(count, count + 1, device=rows.device)
        marked.scatter_(1, slot[self.relevant[rows]], 1.0)
        return marked[:, slot[targets]]


def batches(
    category: Tensor, batch_size: int, mixed: bool, generator: Generator
) -> Iterator[Tensor]:
    """One epoch of row numbers in even batches, of one category each unless `mixed`.

    The number of batches is n / batch_size, rounded; none is a small remainder.
    """
    chunks = [
        chunk
        for rows in _groups(category, mixed)
        for chunk in rows[torch.randperm(len(rows), generator=generator)].tensor_split(
            _parts(len(rows), batch_size)
        )
    ]
    for index in torch.randperm(len(chunks), generator=generator).tolist():
        yield chunks[index]


def _groups(category: Tensor, mixed: bool) -> list[Tensor]:
    if mixed:
        return [torch.arange(len(category))]
    return [torch.nonzero(category == value).flatten() for value in torch.unique(category)]


def _parts(rows: int, batch_size: int) -> int:
    return max(1, round(rows / batch_size))


class Batch(NamedTuple):
    """Rows of one step, (B,) each.

    Attributes:
        query: rows of the schedule's queries.
        reference, target: rows of the image features.
        text: rows of the text features.
    """

    query: Tensor
    reference: Tensor
    target: Tensor
    text: Tensor


class Schedule:
    """The batches of every epoch.

    Attributes:
        queries: that are trained on.
        steps: batches in an epoch.
    """

    def __init__(self, queries: TrainQueries, train: TrainParams) -> None:
        """Args: the queries, and the seed, size and kind of their batches."""
        self.queries, self.train = queries, train
        self._mixed = train.batches == "mixed"
        groups = _groups(queries.category, self._mixed)
        self.steps = sum(_parts(len(rows), train.batch_size) for rows in groups)

    def epoch(self, number: int) -> list[Batch]:
        """The batches of an epoch, the first is 0; the same at every call."""
        queries = self.queries
        device = queries.reference.device
        generator = self._generator(Stream.BATCHES, number)
        rows = list(batches(queries.category, self.train.batch_size, self._mixed, generator))
        query = torch.cat(rows).to(device)
        # A text for every query, however the batches are made.
        generator = self._generator(Stream.CAPTIONS, number)
        drawn = torch.rand(len(queries), generator=generator).to(device)
        place = (drawn * queries.text_count).long()
        text = queries.texts.gather(1, place[:, None]).squeeze(1)
        columns = (query, queries.reference[query], queries.target[query], text[query])
        pieces = [column.split_with_sizes([len(own) for own in rows]) for column in columns]
        return [Batch(*piece) for piece in zip(*pieces, strict=True)]

    def _generator(self, stream: Stream, epoch: int) -> Generator:
        return Generator().manual_seed(epoch_seed(self.train.seed, stream, epoch))


def pad_texts(texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Rows of one to four numbers as (Q, 4), padded with the first, and their counts (Q,)."""
    padded = [[*row, *[row[0]] * (4 - len(row))] for row in texts]
    return torch.tensor(padded), torch.tensor([len(row) for row in texts])
