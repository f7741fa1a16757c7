"""What each training step reads: rows of the feature matrices, for one run or a stack of R.

All that an epoch needs is drawn and looked up before it begins; a step takes a slice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from rau.params import TrainParams

SEED_STRIDE = 1_000_003


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

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The queries of several splits of one data set, one after another."""
        if len(parts) == 1:
            return parts[0]
        known = [part.relevant for part in parts if part.relevant is not None]
        relevant = None
        if len(known) == len(parts):
            width = max(one.shape[1] for one in known)
            nowhere = parts[0].images
            relevant = torch.cat(
                [F.pad(one, (0, width - one.shape[1]), value=nowhere) for one in known]
            )
        columns = ("reference", "target", "texts", "text_count", "category")
        merged = {name: torch.cat([getattr(part, name) for part in parts]) for name in columns}
        return cls(**merged, relevant=relevant, images=parts[0].images)

    def true_pairs(self, rows: Tensor, targets: Tensor) -> Tensor | None:
        """Which image of `targets` (..., B) answers which query of `rows` (..., B).

        Returns (..., B, B) of 1 and 0, or None where it is not known. Every image of the batch gets
        a place among its columns, and each query marks the places of its answers.
        """
        if self.relevant is None:
            return None
        *stack, count = rows.shape
        nowhere = count
        slot = targets.new_full((*stack, self.images + 1), nowhere)
        slot.scatter_(-1, targets, torch.arange(count, device=rows.device).expand_as(targets))
        answers = self.relevant[rows].flatten(-2)
        places = slot.gather(-1, answers).view(*rows.shape, self.relevant.shape[1])
        marked = torch.zeros((*stack, count, count + 1), device=rows.device)
        marked.scatter_(-1, places, 1.0)
        columns = slot.gather(-1, targets)[..., None, :].expand(*stack, count, count)
        return marked.gather(-1, columns)


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
    """Rows of one step, (B,), or (R, B) of a stack.

    Attributes:
        query: rows of the schedule's queries.
        reference, target: rows of the image features.
        text: rows of the text features.
        valid: which are a run's own; None where all are. The others name a first row.
    """

    query: Tensor
    reference: Tensor
    target: Tensor
    text: Tensor
    valid: Tensor | None


class Schedule:
    """The batches of every epoch, for runs that have equally many.

    Attributes:
        queries: of all runs together; runs of one split share theirs.
        steps: in an epoch.
        capacity: rows of each run's largest batch, (R,).
    """

    def __init__(
        self,
        queries: Sequence[TrainQueries],
        seeds: Sequence[int],
        train: TrainParams,
    ) -> None:
        """Lay out the runs' queries.

        Args:
            queries, seeds: of the runs, (R,).
            train: the batches' size and kind.

        Raises:
            ValueError: when the runs have different numbers of batches.
        """
        self.own, self.seeds, self.train = list(queries), list(seeds), train
        distinct = {id(one): one for one in queries}
        self.queries = TrainQueries.joined(list(distinct.values()))
        lengths = torch.tensor([0, *(len(one) for one in distinct.values())]).cumsum(0).tolist()
        first = dict(zip(distinct, lengths, strict=False))
        self._first = [first[id(one)] for one in queries]
        shapes = [batch_shape(one, train) for one in queries]
        if len({steps for steps, _ in shapes}) > 1:
            raise ValueError(f"runs of a stack have different numbers of batches: {shapes}")
        self.steps = shapes[0][0]
        self.capacity = [rows for _, rows in shapes]

    def epoch(self, number: int) -> list[Batch]:
        """The batches of an epoch, the first is 0; the same at every call.

        A run's rows and captions are drawn by generators of its own seed and the epoch's number.
        """
        rows, texts, valid = self._drawn(number)
        device = self.queries.reference.device
        query = (rows + torch.tensor(self._first)[:, None]).to(device)
        reference, target = self.queries.reference[query], self.queries.target[query]
        text, own = texts.to(device), valid.to(device)
        found = []
        for step in range(self.steps):
            wide = slice(0, int(valid[step].sum(-1).max()))
            padded = not valid[step, :, wide].all()
            place = (step, 0 if len(self.own) == 1 else slice(None), wide)
            found.append(
                Batch(
                    query[place],
                    reference[place],
                    target[place],
                    text[place],
                    own[place] if padded else None,
                )
            )
        return found

    def _drawn(self, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Each run's own row numbers, their texts as rows of the text features, and which are
        there, (steps, R, capacity), on the CPU; runs of one split and seed draw once."""
        shape = (self.steps, len(self.own), max(self.capacity))
        rows, texts = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        valid = torch.zeros(shape, dtype=torch.bool)
        drawn: dict[tuple[int, int], tuple[list[Tensor], Tensor]] = {}
        for run, (queries, seed) in enumerate(zip(self.own, self.seeds, strict=True)):
            key = (id(queries), seed)
            if key not in drawn:
                drawn[key] = self._draw(queries, stream(seed, epoch))
            own, captions = drawn[key]
            for step, batch in enumerate(own):
                rows[step, run, : len(batch)] = batch
                texts[step, run, : len(batch)] = captions[batch]
                valid[step, run, : len(batch)] = True
        return rows, texts, valid

    def _draw(self, queries: TrainQueries, seed: int) -> tuple[list[Tensor], Tensor]:
        """The batches of an epoch, and a text for every query however they are made, (Q,)."""
        train = self.train
        generator = Generator().manual_seed(seed)
        mixed = train.batches == "mixed"
        own = list(batches(queries.category, train.batch_size, mixed, generator))
        drawn = torch.rand(len(queries), generator=Generator().manual_seed(seed))
        place = (drawn * queries.text_count.cpu()).long()
        return own, queries.texts.cpu().gather(1, place[:, None]).squeeze(1)


def batch_shape(queries: TrainQueries, train: TrainParams) -> tuple[int, int]:
    """Batches in an epoch, and rows of the largest."""
    sizes = [len(rows) for rows in _groups(queries.category, train.batches == "mixed")]
    parts = [_parts(size, train.batch_size) for size in sizes]
    return sum(parts), max(-(-size // part) for size, part in zip(sizes, parts, strict=True))


def stream(seed: int, epoch: int) -> int:
    """The seed of all that is random in an epoch of a run."""
    return seed * SEED_STRIDE + epoch + 1


def pad_texts(texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Rows of one to four numbers as (Q, 4), padded with the first, and their counts (Q,)."""
    padded = [[*row, *[row[0]] * (4 - len(row))] for row in texts]
    return torch.tensor(padded), torch.tensor([len(row) for row in texts])
