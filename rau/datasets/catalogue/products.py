"""The product table: the images of each product and its known attributes."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rau.datasets.annotations import MEAN
from rau.datasets.catalogue import sheet
from rau.datasets.catalogue.attributes import Attribute
from rau.datasets.catalogue.columns import attribute
from rau.datasets.locate import left_over, stem
from rau.errors import UserError
from rau.files import as_text, parquet_files

NAMES = ("products.csv", "products.parquet")
IMAGE, ID, CATEGORY = "image", "id", "category"
# Of products without a category: where no product has one, and where others have.
ONLY, OTHER = "catalogue", "other"
MAX_ID, MAX_PATH = 255, 4096
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Products:
    """P products in the order of their first rows.

    Attributes:
        path: the table, a file or the folder of `files`.
        ids, categories: (P,).
        images: of each product, the ids of its images, its main one first.
        places: of each image, its path under the folder, as the table writes it.
        cells: of each column but `image`, `id` and `category`, what it says of each product, (P,).
        attributes: columns that distinguish products.
        unused: why another column is not an attribute, by its name.
        notes: notes for the user, one line each.
    """

    path: Path
    files: list[Path]
    ids: list[str]
    categories: list[str]
    images: list[list[str]]
    places: dict[str, str]
    cells: dict[str, list[str | None]] = field(default_factory=dict)
    attributes: list[Attribute] = field(default_factory=list)
    unused: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def usage(self) -> list[str]:
        """How every column is used, one line each."""
        used = [f"{one.name}: {one}" for one in self.attributes]
        return used + [f"{name}: not used, {why}" for name, why in self.unused.items()]


def tables(root: Path) -> list[Path]:
    """The files of a folder's product table; empty if it has none.

    It is `products.csv` or Parquet: one file, or several as `rau.files.parquet_files` finds them.
    """
    csv = root / NAMES[0]
    return [*([csv] if csv.is_file() else []), *parquet_files(root, csv.stem)]


def unnamed(root: Path, products: Products) -> list[str]:
    """A note of the images below a folder that no row of its table names; none where all are."""
    found = left_over(root, products.places.values())
    if not found:
        return []
    return [
        f"{len(found):,} images of the folder are in no row of {products.path.name}, the first: "
        f"{as_text(found[0])}"
    ]


def read(root: Path) -> Products:
    """Read the product table of a folder.

    A product has a row for each of its images, or a row with a list of them; what a cell does not
    say may stand in another row of the product.

    Raises:
        UserError: no table or two, no column `image`, an image that lies outside the folder or
            stands twice, an id that cannot be one, rows of a product that contradict each other.
    """
    found = tables(root)
    if len({path.suffix for path in found}) != 1:
        has = "both {} and {}" if found else "neither {} nor {}"
        raise UserError(
            f"{root} has {has.format(*NAMES)}; dataset.root is a folder with one of them"
        )
    single = found[0].parent == root and len(found) == 1
    path = found[0] if single else found[0].parent
    table = sheet.read(path, files=[] if single else found)
    image, own, category = table.need(IMAGE), table.find(ID), table.find(CATEGORY)
    images = _images(root, table, image)
    product, ids = _rows(table, own, images)
    names, notes = _categories(table, category, product, len(ids))
    of_product: list[list[str]] = [[] for _ in ids]
    places: dict[str, str] = {}
    for row, paths in images.items():
        _name_images(ids[product[row]], paths, of_product[product[row]], places, table.where(row))
    others = [name for name in table.columns if name not in (image, own, category)]
    cells = {name: _values(table, name, product, len(ids)) for name in others}
    attributes, unused = [], {}
    for name, values in cells.items():
        made = attribute(name, values, table.comma)
        if isinstance(made, str):
            unused[name] = made
        else:
            attributes.append(made)
    every = [*table.notes, *notes]
    return Products(path, found, ids, names, of_product, places, cells, attributes, unused, every)


def _images(root: Path, table: sheet.Sheet, column: str) -> dict[int, list[str]]:
    """Paths under the folder by row; rows that are empty are left out."""
    found: dict[int, list[str]] = {}
    first: dict[str, int] = {}
    others = [name for name in table.columns if name != column]
    for row, cell in enumerate(table.cells(column)):
        where = table.where(row, column)
        if cell is None:
            if not any(table.columns[name][row].is_valid for name in others):
                continue
            raise UserError(f"{where}: no image; name one or remove the row")
        found[row] = [image_place(root, one.strip(), where) for one in cell.split(sheet.LIST)]
        for place in found[row]:
            if (other := first.setdefault(place, row)) != row or found[row].count(place) > 1:
                raise UserError(
                    f"{where}: {place!r} is also in {table.row(other)}; keep one of the rows"
                )
    if not found:
        raise UserError(f"{table.path}, column {column!r} is empty; name images in it")
    return found


def image_place(root: Path, path: str, where: str) -> str:
    """An image's path under the folder, as POSIX writes it.

    Raises:
        UserError: beginning with `where`, when it is an address or lies outside of the folder.
    """
    if "://" in path:
        raise UserError(f"{where}: {path[:200]!r} is a URL; save the image in {root}")
    whole = path.replace("\\", "/")
    parts = [part for part in whole.split("/") if part not in ("", ".")]
    outside = whole.startswith("/")
    if outside and parts[: len(home := [*root.absolute().parts[1:]])] == home:
        parts, outside = parts[len(home) :], False
    if outside or ".." in parts or re.match("[A-Za-z]:", path):
        raise UserError(f"{where}: {path[:200]!r} is outside {root}; move the image there")
    if not parts or len(path) > MAX_PATH or CONTROL.search(path):
        raise UserError(f"{where}: {path[:200]!r} is not the path of an image; fix it")
    return "/".join(parts)


def _rows(
    table: sheet.Sheet, column: str | None, images: Mapping[int, list[str]]
) -> tuple[list[int], list[str]]:
    """The product of each row, -1 where the row is empty, and the products' ids."""
    product = [-1] * len(table)
    ids: dict[str, int] = {}
    given = table.cells(column) if column is not None else [None] * len(table)
    named = Counter(name for paths in images.values() for name in {paths[0], stem(paths[0])})
    for row, paths in images.items():
        name = given[row]
        if column is not None and name is None:
            raise UserError(
                f"{table.where(row, column)}: no id, or a value that means unknown "
                f"({', '.join(filter(None, sheet.UNKNOWN))}); give one"
            )
        if name is not None and (len(name) > MAX_ID or CONTROL.search(name)):
            raise UserError(f"{table.where(row, column)}: {name[:200]!r} cannot be an id; give one")
        if name is None:
            # a.jpg and a.png are two products, and a.jpg.png a third.
            name = stem(paths[0]) if named[stem(paths[0])] == 1 else paths[0]
        product[row] = ids.setdefault(name, len(ids))
    return product, list(ids)


def _name_images(
    product: str, paths: Sequence[str], own: list[str], places: dict[str, str], where: str
) -> None:
    """Add images of a product: the first has the product's id, others a number too."""
    for path in paths:
        name = f"{product}#{len(own) + 1}" if own else product
        if name in places:
            raise UserError(f"{where}: {name!r} would name two images; rename the product")
        own.append(name)
        places[name] = path


def _values(
    table: sheet.Sheet, column: str, product: Sequence[int], products: int
) -> list[str | None]:
    """A column's value of every product, in the spelling that comes first.

    Raises:
        UserError: when two rows of a product differ.
    """
    found: list[str | None] = [None] * products
    first: dict[int, int] = {}
    spelling: dict[str, str] = {}
    for row, (own, cell) in enumerate(zip(product, table.cells(column), strict=True)):
        if cell is None:
            continue
        value = spelling.setdefault(" ".join(cell.casefold().split()), cell)
        if (before := first.setdefault(own, row)) == row:
            found[own] = value
        elif found[own] != value:
            raise UserError(
                f"{table.where(row, column)}: differs from {table.row(before)} of the same id; "
                "give variants separate ids"
            )
    return found


def _categories(
    table: sheet.Sheet, column: str | None, product: Sequence[int], products: int
) -> tuple[list[str], list[str]]:
    """The category of every product, as reports can name it, and what was changed."""
    if column is None:
        return [ONLY] * products, []
    given = _values(table, column, product, products)
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for name in filter(None, given):
        spellings[_plain(name).casefold()][_plain(name)] += 1
    # Of spellings that differ in case the most frequent.
    chosen = {folded: counts.most_common(1)[0][0] for folded, counts in spellings.items()}
    # A table may have a category of this name, in its own spelling.
    other = chosen.get(OTHER, OTHER)
    names = [chosen[_plain(name).casefold()] if name else other for name in given]
    changed = sorted({name for name, new in zip(given, names, strict=True) if name and name != new})
    notes = []
    if changed:
        shown = ", ".join(map(repr, changed[:3])) + (", …" if len(changed) > 3 else "")
        notes.append(f"{len(changed):,} categories are renamed to plain characters: {shown}")
    if empty := sum(name is None for name in given):
        notes.append(f"{empty:,} products have no category and are assigned to {other!r}")
    return names, notes


def _plain(name: str) -> str:
    """A category as its name may be: letters, digits, `_`, `-` and spaces."""
    whole = re.sub("['\u2019]", "", unicodedata.normalize("NFC", name))
    words = re.sub(r"[^\w\-]+", " ", whole).split()
    plain = " ".join(words).lstrip("-")[:64].strip() or OTHER
    return f"{plain} products" if plain.casefold() == MEAN else plain
