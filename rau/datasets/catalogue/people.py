"""Captions that people wrote: `pairs.csv`, and what users of a search confirmed in `feedback/`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rau.datasets.catalogue import sheet
from rau.datasets.catalogue.columns import FALSE, TRUE
from rau.datasets.catalogue.products import Products
from rau.datasets.locate import stem
from rau.errors import UserError

PAIRS, FEEDBACK = "pairs.csv", "feedback"
MAX_CAPTION = 1000


@dataclass(frozen=True)
class Request:
    """What somebody asked for, and all products that were confirmed as answers, as rows."""

    reference: int
    caption: str
    targets: tuple[int, ...]


@dataclass(frozen=True)
class Requests:
    """All requests of a folder, the files that they are in, and notes."""

    found: Sequence[Request]
    files: Mapping[str, Path]
    notes: Sequence[str]


def read(root: Path, products: Products) -> Requests:
    """Read the files that exist; of rows that contradict each other the last counts.

    Raises:
        UserError: naming file and row of what is not a pair of products and a caption. Rows of
            feedback on products that the table lacks are left out and counted.
    """
    paths = [root / PAIRS] if (root / PAIRS).is_file() else []
    paths += sorted((root / FEEDBACK).glob("*.csv"))
    named = _names(products)
    accepted: dict[tuple[int, str], dict[int, bool]] = {}
    notes: list[str] = []
    for path in paths:
        table = sheet.read(path)
        rows, strange = _rows(table, named, strict=path.name == PAIRS and path.parent == root)
        for reference, target, caption, right in rows:
            accepted.setdefault((reference, caption), {})[target] = right
        if strange:
            notes.append(f"{path.name}: {strange:,} rows name products that are not in the table")
        notes += table.notes
    found = [
        Request(reference, caption, tuple(t for t, right in targets.items() if right))
        for (reference, caption), targets in accepted.items()
    ]
    wrong = sum(not right for targets in accepted.values() for right in targets.values())
    if wrong:
        notes.append(f"{wrong:,} answers were not accepted: they take back what a row before says")
    files = {path.relative_to(root).as_posix(): path for path in paths}
    return Requests([one for one in found if one.targets], files, notes)


def _names(products: Products) -> dict[str, int]:
    """Products by all that may name them: their ids, their pictures' ids and paths."""
    named = {name: row for row, name in enumerate(products.ids)}
    for row, pictures in enumerate(products.pictures):
        for picture in pictures:
            path = products.places[picture]
            for name in (picture, path, stem(path)):
                named.setdefault(name, row)
    return named


def _rows(
    table: sheet.Sheet, named: Mapping[str, int], strict: bool
) -> tuple[list[tuple[int, int, str, bool]], int]:
    """Reference, target, caption and whether it was accepted; and how many rows name others."""
    ends = [table.need(name) for name in ("reference", "target")]
    text, flag = table.need("caption"), table.find("accepted")
    columns = [table.cells(name) for name in (*ends, text)]
    flags = table.cells(flag) if flag is not None else [None] * len(table)
    found = []
    strange = 0
    for row, (*names, caption, right) in enumerate(zip(*columns, flags, strict=True)):
        if all(cell is None for cell in (*names, caption, right)):
            continue
        if caption is None or len(caption) > MAX_CAPTION:
            raise UserError(
                f"{table.where(row, text)}: a caption has 1 to {MAX_CAPTION:,} characters; fix it"
            )
        if right is not None and right.casefold() not in (*TRUE, *FALSE):
            raise UserError(f"{table.where(row, flag)}: {right[:40]!r} is not yes or no; fix it")
        rows = [named.get(name or "", -1) for name in names]
        if -1 in rows or rows[0] == rows[1]:
            if strict:
                bad = rows.index(-1) if -1 in rows else 1
                why = "is not in the product table" if -1 in rows else "is the reference itself"
                raise UserError(f"{table.where(row, ends[bad])}: {names[bad]!r} {why}; fix the row")
            strange += 1
            continue
        accepted = right is None or right.casefold() in TRUE
        found.append((rows[0], rows[1], " ".join(caption.split()), accepted))
    return found, strange
