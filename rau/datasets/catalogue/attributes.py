"""Columns of a product table as attributes: labels, yes or no, numbers, or sets of labels."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from rau.datasets.catalogue.sheet import LIST

Rows = NDArray[np.int64] | slice
Mask = NDArray[np.bool_]
ALL = slice(None)
TRUE, FALSE = ("yes", "true", "y", "t", "1", "x", "✓"), ("no", "false", "n", "f", "0")
# A number, with a currency before or a unit after it.
NUMBER = re.compile(r"(?P<before>[€$£¥])? ?(?P<value>[+-]?\d[\d.,' ]*)(?P<unit>[^\d.,]{0,12})?")
THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:[,']\d{3})+(?:\.\d+)?")
# Names of columns that number or describe single products.
IDENTIFIER = re.compile(
    r"\b(id|ids|sku|ean|gtin|upc|asin|isbn|mpn|barcode|url|link|href|handle|slug|guid|uuid|"
    r"timestamp|title|description|comment|comments|note|notes)\b"
)
MAX_WORDS, MAX_LENGTH = 6, 48
# Labels tell products apart where they are shared: of so many values of which most stand once.
MANY, ONCE = 20, 0.5
MAX_SET_VALUES = 256
# Two numbers differ noticeably by this share of the range of the middle 80 % of products.
NOTICEABLE = 0.2


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
class Labels(Attribute):
    """One of some values; `codes` (P,) are places in `values`, -1 unknown."""

    values: Sequence[str]
    codes: NDArray[np.int32]
    kind: ClassVar[str] = "categorical"

    def __str__(self) -> str:
        return f"{self.kind}, {len(self.values):,} values"

    def differs(self, product: int, rows: Rows) -> Mask:
        return np.asarray(self.codes[rows] != self.codes[product])

    def sort_key(self) -> NDArray[np.int64]:
        return self.codes.astype(np.int64)

    def take(self, rows: NDArray[np.int64]) -> Self:
        return replace(self, codes=self.codes[rows])

    def known(self, rows: Rows) -> Mask:
        return np.asarray(self.codes[rows] >= 0)


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
class Sets(Attribute):
    """Several of some values.

    `members` (P, V) says which, `codes` (P,) are equal where all are, -1 unknown.
    """

    values: Sequence[str]
    members: NDArray[np.bool_]
    codes: NDArray[np.int32]
    kind: ClassVar[str] = "multi-valued"

    def __str__(self) -> str:
        return f"{self.kind}, {len(self.values):,} values"

    def differs(self, product: int, rows: Rows) -> Mask:
        return np.asarray(self.codes[rows] != self.codes[product])

    def sort_key(self) -> NDArray[np.int64]:
        return self.codes.astype(np.int64)

    def take(self, rows: NDArray[np.int64]) -> Self:
        return replace(self, members=self.members[rows], codes=self.codes[rows])

    def known(self, rows: Rows) -> Mask:
        return np.asarray(self.codes[rows] >= 0)


def attribute(name: str, cells: Sequence[str | None], comma: bool) -> Attribute | str:
    """A column as the attribute that its cells look like, or why it is none.

    Args:
        cells: of every product, None where unknown.
        comma: whether a comma is the decimal point, where it could be either.
    """
    count = Counter(cell for cell in cells if cell is not None)
    words = spoken(name)
    if len(count) < 2:
        return "it is empty" if not count else "it says the same of every product"
    if IDENTIFIER.search(words):
        return "by its name it identifies or describes single products"
    lowered = {cell.casefold() for cell in count}
    if lowered <= {*TRUE, *FALSE} and not lowered.isdisjoint(FALSE):
        codes = [-1 if c is None else int(c.casefold() in TRUE) for c in cells]
        return Boolean(name, words, ("no", "yes"), np.array(codes, np.int32))
    if (found := _numbers(name, words, cells, comma)) is not None:
        return found
    if any(LIST in cell for cell in count):
        return _sets(name, words, cells)
    return _labels(name, words, cells)


def spoken(text: str) -> str:
    """A name or a value as captions say it: lower case, words apart."""
    apart = re.sub(r"(?<=[a-zà-ÿ])(?=[A-Z])", " ", text)
    plain = re.sub(r"\([^)]*\)|[_/]+", " ", apart)
    return " ".join((plain if plain.strip() else apart).casefold().split())


def _numbers(
    name: str, words: str, cells: Sequence[str | None], comma: bool
) -> Numbers | str | None:
    """The attribute if every known cell is a number, all with one currency and unit."""
    matches = [None if cell is None else NUMBER.fullmatch(cell) for cell in cells]
    known = [found for found in matches if found is not None]
    if len(known) < sum(cell is not None for cell in cells):
        return None
    affixes = {(m["before"] or "", (m["unit"] or "").rstrip()) for m in known}
    if len(affixes) > 1:
        return None
    texts = [m["value"].replace(" ", "") for m in known]
    thousands = not comma and all(THOUSANDS.fullmatch(t) for t in texts if "," in t)
    try:
        parsed = iter([_number(text, thousands) for text in texts])
    except ValueError:
        return None
    numbers = np.array([np.nan if m is None else next(parsed) for m in matches])
    here = numbers[~np.isnan(numbers)]
    if len(here) >= MANY and len(set(here.tolist())) == len(here) and (here % 1 == 0).all():
        return "every product has another whole number, as numbers that identify"
    low, high = np.quantile(here, (0.1, 0.9))
    step = NOTICEABLE * ((high - low) or (here.max() - here.min()))
    if not step > 0:
        return "its numbers do not differ"
    before, unit = affixes.pop()
    return Numbers(name, words, numbers, float(step), before, unit)


def _number(text: str, thousands: bool) -> float:
    """A number in English or European writing.

    Args:
        thousands: whether a comma alone groups digits, where it would else be the decimal point.

    Raises:
        ValueError: when it is neither.
    """
    text = text.replace("'", "")
    group, point = (",", ".") if text.rfind(".") > text.rfind(",") or thousands else (".", ",")
    return float(text.replace(group, "").replace(point, ".") if "," in text else text)


def _labels(name: str, words: str, cells: Sequence[str | None]) -> Labels | str:
    folded = [None if cell is None else spoken(cell) for cell in cells]
    count = Counter(value for value in folded if value is not None)
    if why := _free_text(count):
        return why
    if len(count) < 2:
        return "it says the same of every product"
    place = {value: code for code, value in enumerate(sorted(count))}
    codes = [-1 if value is None else place[value] for value in folded]
    return Labels(name, words, list(place), np.array(codes, np.int32))


def _free_text(count: Counter[str]) -> str | None:
    """Why values are no labels; None where they are."""
    long = sum(n for v, n in count.items() if len(v.split()) > MAX_WORDS or len(v) > MAX_LENGTH)
    if long > 0.2 * count.total():
        return "it is free text"
    once = sum(n == 1 for n in count.values())
    if len(count) > MANY and once > ONCE * count.total():
        return "nearly every product has a value of its own"
    return None


def _sets(name: str, words: str, cells: Sequence[str | None]) -> Sets | str:
    """The attribute of lists; values of one product alone are left out."""
    lists = [
        None if cell is None else frozenset(filter(None, map(spoken, cell.split(LIST))))
        for cell in cells
    ]
    count = Counter(value for own in lists for value in own or ())
    if why := _free_text(count):
        return why
    shared = [value for value, n in count.most_common(MAX_SET_VALUES) if n > 1]
    if not shared:
        return "no two products share a value"
    place = {value: code for code, value in enumerate(sorted(shared))}
    members = np.zeros((len(cells), len(place)), np.bool_)
    for row, own in enumerate(lists):
        members[row, [place[value] for value in own or () if value in place]] = True
    # Values that are left out still make sets differ.
    known: dict[frozenset[str], int] = {}
    codes = [-1 if own is None else known.setdefault(own, len(known)) for own in lists]
    return Sets(name, words, list(place), members, np.array(codes, np.int32))
