"""Features of a batch's pictures or texts: encoded by a tower that is trained, or looked up."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from rau.finetuning.embedding import Embedding
from rau.finetuning.pictures import Loaded
from rau.finetuning.processes import Processes

BLOCK = 256


class Embedded(Protocol):
    """Features of distinct rows, and where their gradient goes."""

    @property
    def features(self) -> Tensor:
        """(N, d), a leaf of the graph."""
        ...

    def backward(self) -> None:
        """Take the gradient of `features` back into the tower."""
        ...


# A step's features, of rows that were announced when the epoch began, from the seed of a tower's
# own random numbers.
Embed = Callable[[int], Embedded]


class Inputs(Protocol):
    """What a tower reads, by row."""

    def steps(self, rows: Sequence[Tensor], seed: int) -> Generator[Loaded]:
        """The inputs of each step's rows."""
        ...


@dataclass(frozen=True)
class Texts:
    """All texts as tokens (N, context), and how many of each its feature depends on, (N,)."""

    tokens: Tensor
    lengths: Tensor

    def steps(self, rows: Sequence[Tensor], seed: int) -> Generator[Loaded]:
        """The tokens of each step's rows, cut to the longest of a slice."""
        for own in rows:
            yield partial(self._cut, own)

    def _cut(self, step: Tensor, part: slice) -> Tensor:
        rows = step[part]
        longest = int(self.lengths[rows].max()) if len(rows) else 1
        return self.tokens[rows, :longest]


class LookedUp:
    """Features of a tower that is not trained."""

    def __init__(self, matrix: Tensor) -> None:
        """Args: features of all rows, (N, d), on the device."""
        self.matrix = matrix

    def steps(self, rows: Sequence[Tensor], seed: int) -> Generator[Embed]:
        """The features of each step's distinct rows."""
        for own in rows:
            yield partial(self._look_up, own)

    def _look_up(self, rows: Tensor, seed: int) -> "_Fixed":
        return _Fixed(self.encode(rows))

    def encode(self, rows: Tensor) -> Tensor:
        """Features (N, d) of the rows."""
        return self.matrix[rows.to(self.matrix.device)]


@dataclass(frozen=True)
class _Fixed:
    features: Tensor

    def backward(self) -> None:
        """Nothing is trained."""


class Encoded:
    """Features of a tower that is trained: every process encodes its share of a step's rows."""

    def __init__(
        self,
        inputs: Inputs,
        plain: Inputs,
        tower: Callable[[Tensor], Tensor],
        processes: Processes,
        piece: int | None,
    ) -> None:
        """Set up.

        Args:
            inputs: of the tower, in training.
            plain: the same without random changes.
            tower: features (n, d) of inputs.
            processes: that share a step.
            piece: inputs in one forward pass with gradient; None for all.
        """
        self._inputs, self._plain, self._tower = inputs, plain, tower
        self._processes, self._piece = processes, piece

    def steps(self, rows: Sequence[Tensor], seed: int) -> Generator[Embed]:
        """The features of each step's distinct rows, encoded when they are asked for."""
        own = [self._processes.share(step) for step in rows]
        with closing(self._inputs.steps(own, seed)) as inputs:
            for loaded, share, step in zip(inputs, own, rows, strict=True):
                yield partial(self._embed, loaded, len(share), step)

    def _embed(self, loaded: Loaded, count: int, rows: Tensor, seed: int) -> "_Shared":
        def encode(part: slice) -> Tensor:
            return self._tower(loaded(part))

        device = self._processes.device
        own = Embedding(encode, count, self._piece, seed, device)
        return _Shared(own, rows, self._processes)

    @torch.no_grad()
    def encode(self, rows: Tensor) -> Tensor:
        """Features (N, d) of the rows, each process encoding a share; in evaluation mode."""
        own = self._processes.share(rows)
        blocks = torch.split(own, BLOCK)
        done = [self._tower(load(slice(None))) for load in self._plain.steps(blocks, 0)]
        return self._processes.gather(torch.cat(done), len(rows))


class _Shared:
    def __init__(self, own: Embedding, rows: Tensor, processes: Processes) -> None:
        self._own, self._rows, self._processes = own, rows, processes
        self.features = processes.gather(own.values, len(rows)).requires_grad_()

    def backward(self) -> None:
        """Take this process's share of the gradient back."""
        if self.features.grad is not None:
            places = self._processes.share(torch.arange(len(self._rows)))
            self._own.backward(self.features.grad[places.to(self.features.device)])
