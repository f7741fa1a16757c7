"""Attributes of products: labels, yes or no, numbers, and sets of labels."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64] | slice
Mask = NDArray[np.bool_]
ALL = slice(None)


@dataclass(frozen=True)
class Attribute(ABC):
    """One attribute of P products; `name` is its column's, `words` how captions call it."""

    name: str
    words: str
    kind: ClassVar[str]

    @abstractmethod
    def differs(self, product: int, rows: Rows) -> Mask:
        """Which of some products differ from one noticeably; known and unknown differ."""

    @abstractmethod
    def sort_key(self) -> NDArray[np.int64]:
        """Integers (P,) that are equal where products are alike."""

    @abstractmethod
    def take(self, rows: NDArray[np.int64]) -> Self:
        """The same attribute of some products."""

    @abstractmethod
    def known(self, rows: Rows) -> Mask:
        """Which of some products have a value."""


@dataclass(frozen=True)
class Coded(Attribute):
    """Products are alike where their `codes` (P,) are equal; -1 is unknown."""

    values: Sequence[str]
    codes: NDArray[np.int32]

    def __str__(self) -> str:
        return f"{self.kind}, {len(self.values):,} values"

    def differs(self, product: int, rows: Rows) -> Mask:
        return np.asarray(self.codes[rows] != self.codes[product])

    def sort_key(self) -> NDArray[np.int64]:
        return self.codes.astype(np.int64)

    def known(self, rows: Rows) -> Mask:
        return np.asarray(self.codes[rows] >= 0)


@dataclass(frozen=True)
class Labels(Coded):
    """One of some values; codes are places in `values`."""

    kind: ClassVar[str] = "categorical"

    def take(self, rows: NDArray[np.int64]) -> Self:
        return replace(self, codes=self.codes[rows])


@dataclass(frozen=True)
class Boolean(Labels):
    """Yes or no: code 1 or 0."""

    kind: ClassVar[str] = "boolean"

    def __str__(self) -> str:
        return self.kind


@dataclass(frozen=True)
class Numbers(Attribute):
    """A number (P,), NaN where unknown; `step` is the least difference that is noticed."""

    numbers: NDArray[np.float64]
    step: float
    before: str = ""
    unit: str = ""
    kind: ClassVar[str] = "numeric"

    def __str__(self) -> str:
        low, high = (float(end(self.numbers)) for end in (np.nanmin, np.nanmax))
        return f"{self.kind}, {self.text(low)} to {self.text(high)}"

    def text(self, number: float) -> str:
        """A number with its currency or unit."""
        unit = f" {self.unit}" if self.unit.isalnum() else self.unit
        return f"{self.before}{number:.10g}{unit}"

    def differs(self, product: int, rows: Rows) -> Mask:
        own = self.numbers[product]
        if np.isnan(own):
            return self.known(rows)
        # A number that is not known is not near.
        return ~np.asarray(np.abs(self.numbers[rows] - own) < self.step)

    def sort_key(self) -> NDArray[np.int64]:
        return np.nan_to_num(np.floor(self.numbers / self.step), nan=-(2.0**40)).astype(np.int64)

    def take(self, rows: NDArray[np.int64]) -> Self:
        return replace(self, numbers=self.numbers[rows])

    def known(self, rows: Rows) -> Mask:
        return np.logical_not(np.isnan(self.numbers[rows]))


@dataclass(frozen=True)
class Sets(Coded):
    """Several of some values: `members` (P, V) says which; codes are equal where all are."""

    members: NDArray[np.bool_]
    kind: ClassVar[str] = "multi-valued"

    def take(self, rows: NDArray[np.int64]) -> Self:
        return replace(self, members=self.members[rows], codes=self.codes[rows])
