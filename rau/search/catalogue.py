"""What is to be indexed: pictures with their ids and attributes, of a folder or of a data set."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from rau.datasets.catalogue import products, sheet
from rau.datasets.catalogue.columns import FALSE, TRUE
from rau.errors import UserError
from rau.files import as_text, walk
from rau.pictures import SUFFIXES
from rau.schemas import ImageRow

NO_TEXT = "its name is not UTF-8; rename it"


@dataclass(frozen=True)
class Catalogue:
    """Pictures, each with an id of its own, in the order of their ids.

    Attributes:
        source: what it is, in words; a data set's as `rau.evaluation.calibration.of_dataset` says.
        ids, paths: (N,); paths are relative to `root`.
        attributes: N rows of strings, numbers, booleans or lists of strings; perhaps no column.
        unreadable: why by path, of pictures that are none of the N since no id can name them.
    """

    source: str
    root: Path
    ids: Sequence[str]
    paths: Sequence[str]
    attributes: pa.Table
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


def only(catalogue: Catalogue, source: str, wanted: AbstractSet[str]) -> Catalogue:
    """The pictures of a catalogue with these ids."""
    rows = [row for row, name in enumerate(catalogue.ids) if name in wanted]
    return replace(
        catalogue,
        source=source,
        ids=[catalogue.ids[row] for row in rows],
        paths=[catalogue.paths[row] for row in rows],
        attributes=catalogue.attributes.take(rows),
    )


def of_images(source: str, root: Path, rows: Iterable[ImageRow]) -> Catalogue:
    """The images of a data set's table that are there; their category is an attribute."""
    found = sorted(
        (row["image_id"], row["path"], row["category"])
        for row in rows
        if row["status"] == "ok" and row["path"] is not None
    )
    once = {image_id: (path, category) for image_id, path, category in found}
    categories: dict[str, list[str]] = {}
    for image_id, _, category in found:
        categories.setdefault(image_id, []).append(category)
    single = all(len(own) == 1 for own in categories.values())
    values = [own[0] if single else own for own in categories.values()]
    kind = pa.string() if single else pa.list_(pa.string())
    attributes = pa.table({"category": pa.array(values, kind)})
    return Catalogue(source, root, list(once), [path for path, _ in once.values()], attributes)


def of_folder(root: Path) -> Catalogue:
    """The pictures of a folder: those that its product table names, else all below it.

    Raises:
        UserError: when there is no such folder, no picture, or the table is malformed.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; name one with pictures")
    if any((root / name).is_file() for name in products.NAMES):
        return of_products(root)
    found = {path: as_text(path) for path in sorted(_pictures(root))}
    if not found:
        raise UserError(
            f"{root} has no pictures ({', '.join(SUFFIXES)}) and no {products.NAMES[0]}"
        )
    paths = [path for path, text in found.items() if path == text]
    others = {text: NO_TEXT for path, text in found.items() if path != text}
    return Catalogue(_source(root), root, paths, paths, pa.table({}), others)


def _source(root: Path) -> str:
    return f"folder {as_text(root.absolute().name)}"


def _pictures(root: Path) -> Iterable[str]:
    """Pictures below a folder, relative to it; hidden files and folders are left out."""
    for folder, names in walk(root):
        for name in names:
            if name.lower().endswith(SUFFIXES):
                yield (folder / name).relative_to(root).as_posix()


def of_products(root: Path) -> Catalogue:
    """The pictures of a folder's product table, by their ids in the data set `catalogue`.

    Attributes are all other columns: numbers, true and false, lists (with a `|`) or strings, as
    they are written; `category` and `product` are always there.

    Raises:
        UserError: when the table is malformed.
    """
    known = products.read(root)
    raw = sheet.read(known.path)
    product = {name: row for row, own in enumerate(known.pictures) for name in own}
    by_path = {path: name for name, path in known.places.items()}
    rows: list[list[int]] = [[] for _ in known.ids]
    for row, cell in enumerate(raw.cells(raw.need(products.IMAGE))):
        if cell is not None:
            path = products.picture_place(root, cell.split(sheet.LIST)[0].strip(), raw.where(row))
            rows[product[by_path[path]]].append(row)
    used = {raw.find(name) for name in (products.IMAGE, products.ID, products.CATEGORY)}
    given = {"product": pa.array(known.ids), "category": pa.array(known.categories)}
    for name in raw.columns:
        if name not in used and name not in given:
            given[name] = _column(_merged(raw.cells(name), rows))
    ids = sorted(product)
    table = pa.table(given).take([product[name] for name in ids])
    return Catalogue(_source(root), root, ids, [known.places[name] for name in ids], table)


def _merged(cells: Sequence[str | None], rows: Sequence[Sequence[int]]) -> list[str | None]:
    """Of each product what the first of its rows with a value says."""
    return [next((cells[r] for r in own if cells[r] is not None), None) for own in rows]


def _column(cells: Sequence[str | None]) -> pa.Array:
    """Cells as numbers or booleans where all are such, as lists where one is, else as strings.

    Numbers that are not finite are unknown.
    """
    values = [cell for cell in cells if cell is not None]
    for kind in (pa.int64(), pa.float64()):
        with suppress(pa.ArrowInvalid):
            numbers = pa.array(cells, pa.string()).cast(kind)
            return pc.if_else(pc.is_finite(numbers), numbers, None)
    if {value.casefold() for value in values} <= {*TRUE, *FALSE}:
        return pa.array([None if cell is None else cell.casefold() in TRUE for cell in cells])
    if any(sheet.LIST in value for value in values):
        lists = ([p.strip() for p in cell.split(sheet.LIST)] if cell else None for cell in cells)
        return pa.array(lists, pa.list_(pa.string()))
    return pa.array(cells, pa.string())
