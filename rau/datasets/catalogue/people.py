"""Captions that people wrote: `pairs.csv`, and what users of a search confirmed in `feedback/`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from rau.datasets.catalogue import sheet
from rau.datasets.catalogue.columns import FALSE, TRUE
from rau.datasets.catalogue.products import Products, image_place
from rau.datasets.locate import stem
from rau.errors import UserError
from rau.files import shown

PAIRS, FEEDBACK = "pairs.csv", "feedback"
MAX_CAPTION = 1000


@dataclass(frozen=True)
class Request:
    """What somebody asked for, and all products that were confirmed as answers, as rows."""

    reference: int
    caption: str
    targets: tuple[int, ...]


Refused = Mapping[tuple[int, str], AbstractSet[int]]


@dataclass(frozen=True)
class Requests:
    """All requests of a folder, the files that they are in, and notes.

    Attributes:
        refused: products, as rows, that were said to be no answer, by reference and caption.
    """

    found: Sequence[Request]
    refused: Refused
    files: Mapping[str, Path]
    notes: Sequence[str]


def read(root: Path, products: Products) -> Requests:
    """Read the files that exist; of rows that contradict each other the last counts.

    Raises:
        UserError: naming file and row of what is not a pair of products and a caption. Such rows of
            feedback are left out and counted.
    """
    paths = [root / PAIRS] if (root / PAIRS).is_file() else []
    paths += shown(root / FEEDBACK, "*.csv")
    named = _names(products)
    accepted: dict[tuple[int, str], dict[int, bool]] = {}
    notes: list[str] = []
    for path in paths:
        # What else is unknown in a table is no consent here.
        table = sheet.read(path, unknown=[""])
        rows, faults = _rows(table, named, root)
        if faults and path == root / PAIRS:
            raise UserError(f"{faults[0]}; fix the row")
        for reference, target, caption, right in rows:
            accepted.setdefault((reference, caption), {})[target] = right
        if faults:
            notes.append(f"{len(faults):,} rows are skipped, the first: {faults[0]}")
        notes += table.notes
    found = [
        Request(reference, caption, tuple(t for t, right in targets.items() if right))
        for (reference, caption), targets in accepted.items()
    ]
    refused = {
        request: wrong
        for request, targets in accepted.items()
        if (wrong := {target for target, right in targets.items() if not right})
    }
    if refused:
        count = sum(map(len, refused.values()))
        notes.append(f"{count:,} products were rejected: they do not count as correct answers")
    files = {path.relative_to(root).as_posix(): path for path in paths}
    return Requests([one for one in found if one.targets], refused, files, notes)


def _names(products: Products) -> dict[str, int]:
    """Products by all that may name them: their ids, their images' ids and paths.

    Paths without their suffix count where one product alone has such images.
    """
    rows = {name: row for row, own in enumerate(products.images) for name in own}
    paths = {path: rows[image] for image, path in products.places.items()}
    stems = {(stem(path), row) for path, row in paths.items()}
    count = Counter(name for name, _ in stems)
    alone = {name: row for name, row in stems if count[name] == 1}
    return alone | paths | rows | {name: row for row, name in enumerate(products.ids)}


def _rows(
    table: sheet.Sheet, named: Mapping[str, int], root: Path
) -> tuple[list[tuple[int, int, str, bool]], list[str]]:
    """Reference, target, caption and whether it was accepted; and what is wrong with other rows."""
    columns = [table.need(name) for name in ("reference", "target", "caption")]
    flag = table.find("accepted")
    flags = table.cells(flag) if flag is not None else [None] * len(table)
    found, faults = [], []
    for row, cells in enumerate(zip(*map(table.cells, columns), flags, strict=True)):
        if not any(cells):
            continue
        *names, caption, right = (cell or "" for cell in cells)
        ends = [_row(name, named, root) for name in names]
        if fault := _fault(names, ends, caption, right):
            place, why = fault
            faults.append(f"{table.where(row, [*columns, flag][place])}: {why}")
        else:
            accepted = not right or right.casefold() in TRUE
            found.append((ends[0], ends[1], " ".join(caption.split()), accepted))
    return found, faults


def _fault(
    names: Sequence[str], ends: Sequence[int], caption: str, right: str
) -> tuple[int, str] | None:
    """Which cell of a row is wrong and why; None where none is."""
    if -1 in ends:
        return (bad := ends.index(-1)), f"{names[bad]!r} is not in the product table"
    if ends[0] == ends[1]:
        return 1, f"{names[1]!r} is the reference itself"
    if caption.lower() in sheet.UNKNOWN or len(caption) > MAX_CAPTION:
        return 2, f"a caption must have words and at most {MAX_CAPTION:,} characters"
    if right and right.casefold() not in (*TRUE, *FALSE):
        return 3, f"{right[:40]!r} is not yes or no"
    return None


def _row(name: str, named: Mapping[str, int], root: Path) -> int:
    """The product of a name, also of a path as the product table may write it; -1 for none."""
    if name in named:
        return named[name]
    try:
        return named.get(image_place(root, name, ""), -1)
    except UserError:
        return -1
