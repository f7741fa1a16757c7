"""Columns of a product table read as attributes, by what their cells look like."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rau.datasets.catalogue.attributes import Attribute, Boolean, Labels, Numbers, Sets
from rau.datasets.catalogue.sheet import LIST

TRUE, FALSE = ("yes", "true", "y", "t", "1", "x", "✓"), ("no", "false", "n", "f", "0")
# A number, with a currency before or a unit after it; 1e-07 as programs write it.
NUMBER = re.compile(
    r"(?P<before>[€$£¥])? ?(?P<value>[+-]?\d[\d.,' ]{0,30}(?:[eE][+-]\d{1,2})?)"
    r"(?P<unit>[^\d.,]{0,12})?"
)
THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:[,']\d{3})+(?:\.\d+)?")
POINT_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:\.\d{3})+(?:,\d+)?")
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


def attribute(name: str, cells: Sequence[str | None], comma: bool) -> Attribute | str:
    """A column as the attribute that its cells look like, or why it is none.

    Args:
        cells: of every product, None where unknown.
        comma: whether a comma is the decimal point, where it could be either.
    """
    count = Counter(cell for cell in cells if cell is not None)
    words = spoken(name)
    if len(count) < 2:
        return "it is empty" if not count else "it has the same value for every product"
    if IDENTIFIER.search(words):
        return "its name suggests that it identifies or describes single products"
    lowered = {cell.casefold() for cell in count}
    if lowered <= {*TRUE, *FALSE} and not lowered.isdisjoint(FALSE):
        codes = [-1 if c is None else int(c.casefold() in TRUE) for c in cells]
        return Boolean(name, words, ("no", "yes"), np.array(codes, np.int32))
    if (numbers := _parsed(count, comma)) is not None:
        return _numbers(name, words, cells, numbers)
    if any(LIST in cell for cell in count):
        return _sets(name, words, cells, count)
    return _labels(name, words, cells, count)


def spoken(text: str) -> str:
    """A name or a value as captions say it: lower case, words apart."""
    apart = re.sub(r"(?<=[a-zà-ÿ])(?=[A-Z])", " ", text)
    plain = re.sub(r"\([^)]*\)|[_/]+", " ", apart)
    return " ".join((plain if plain.strip() else apart).casefold().split())


@dataclass(frozen=True)
class _Parsed:
    """The numbers that cells stand for, and what all have before and after."""

    numbers: Mapping[str, float]
    before: str
    unit: str


def _parsed(cells: Iterable[str], comma: bool) -> _Parsed | None:
    """Cells as numbers; None where one is none, or has another currency or unit."""
    texts: dict[str, str] = {}
    affixes: set[tuple[str, str]] = set()
    for cell in cells:
        if (match := NUMBER.fullmatch(cell)) is None:
            return None
        texts[cell] = match["value"].replace(" ", "")
        affixes.add((match["before"] or "", (match["unit"] or "").rstrip()))
    if len(affixes) != 1:
        return None
    group = None
    if not comma and all(THOUSANDS.fullmatch(t) for t in texts.values() if "," in t):
        group = ","
    elif all(POINT_THOUSANDS.fullmatch(t) for t in texts.values() if "." in t):
        group = "."
    try:
        numbers = {cell: _number(text, group) for cell, text in texts.items()}
    except ValueError:
        return None
    return _Parsed(numbers, *affixes.pop())


def _numbers(name: str, words: str, cells: Sequence[str | None], parsed: _Parsed) -> Numbers | str:
    numbers = np.array([np.nan if cell is None else parsed.numbers[cell] for cell in cells])
    here = numbers[~np.isnan(numbers)]
    if len(here) >= MANY and len(np.unique(here)) == len(here) and (here % 1 == 0).all():
        return "every product has a different integer, as in identifiers"
    low, high = np.quantile(here, (0.1, 0.9))
    step = NOTICEABLE * ((high - low) or (here.max() - here.min()))
    if not step > 0:
        return "its numbers do not differ"
    return Numbers(name, words, numbers, float(step), parsed.before, parsed.unit)


def _number(text: str, group: str | None) -> float:
    """A number in English or European writing.

    Args:
        group: what stands between thousands; None where each text says it by what comes last.

    Raises:
        ValueError: when it is neither.
    """
    text = text.replace("'", "")
    if group is None and "," in text:
        group = "," if text.rfind(".") > text.rfind(",") else "."
    return float(text.replace(group, "").replace(",", ".") if group else text)


def _labels(
    name: str, words: str, cells: Sequence[str | None], given: Counter[str]
) -> Labels | str:
    said = {cell: spoken(cell) for cell in given}
    count: Counter[str] = Counter()
    for cell, times in given.items():
        count[said[cell]] += times
    if why := _free_text(count):
        return why
    if len(count) < 2:
        return "it has the same value for every product"
    place = {value: code for code, value in enumerate(sorted(count))}
    codes = [-1 if cell is None else place[said[cell]] for cell in cells]
    return Labels(name, words, list(place), np.array(codes, np.int32))


def _free_text(count: Counter[str]) -> str | None:
    """Why values are no labels; None where they are."""
    long = sum(n for v, n in count.items() if len(v.split()) > MAX_WORDS or len(v) > MAX_LENGTH)
    if long > 0.2 * count.total():
        return "it is free text"
    once = sum(n == 1 for n in count.values())
    if len(count) > MANY and once > ONCE * count.total():
        return "nearly every product has a distinct value"
    return None


def _sets(name: str, words: str, cells: Sequence[str | None], given: Counter[str]) -> Sets | str:
    """The attribute of lists; values of one product alone are left out."""
    parsed = {cell: frozenset(filter(None, map(spoken, cell.split(LIST)))) for cell in given}
    count: Counter[str] = Counter()
    for cell, times in given.items():
        count.update(dict.fromkeys(parsed[cell], times))
    if why := _free_text(count):
        return why
    shared = [value for value, n in count.most_common(MAX_SET_VALUES) if n > 1]
    if not shared:
        return "no two products share a value"
    place = {value: code for code, value in enumerate(sorted(shared))}
    members = np.zeros((len(cells), len(place)), np.bool_)
    # Values that are left out still make sets differ.
    known: dict[frozenset[str], int] = {}
    codes = np.full(len(cells), -1, np.int32)
    for row, one in enumerate(cells):
        if one is not None:
            own = parsed[one]
            members[row, [place[value] for value in own if value in place]] = True
            codes[row] = known.setdefault(own, len(known))
    return Sets(name, words, list(place), codes, members)
