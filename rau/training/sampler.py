"""What each training step reads: rows of the feature matrices.

The rows of an epoch are drawn and looked up before it begins; a step takes a slice of them.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from rau.params import TrainParams
from rau.training.seeds import Stream, epoch_seed
from rau.training.triplets import Triplets


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
        query: rows of the sampler's triplets.
        reference, target: rows of the image features.
        text: rows of the text features.
    """

    query: Tensor
    reference: Tensor
    target: Tensor
    text: Tensor


class BatchSampler:
    """The batches of every epoch.

    Attributes:
        queries: that are trained on.
        steps: batches in an epoch.
    """

    def __init__(self, queries: Triplets, train: TrainParams) -> None:
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
