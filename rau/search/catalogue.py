"""Catalogues to be indexed: images with ids and attributes, of a folder or of a data set."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from rau.datasets.catalogue import products, sheet
from rau.datasets.catalogue.attributes import Attribute, Boolean, Numbers
from rau.datasets.catalogue.columns import TRUE
from rau.datasets.locate import Located, images_below
from rau.errors import UserError
from rau.files import as_text
from rau.pictures import SUFFIXES
from rau.schemas import ImageRow

NO_TEXT = "its name is not UTF-8; rename it"
# Read as booleans even if all cells are the same, since programs write booleans like this.
BOOLEANS = {"true", "false"}
# Digits that remain a string: as a number they would lose their leading zeros.
CODE = re.compile(r"[+-]?0[\dx]")


@dataclass(frozen=True)
class Catalogue:
    """Images with unique ids, in the order of their ids.

    Attributes:
        source: description of it; for data sets from `rau.evaluation.calibration.of_dataset`.
        ids, paths: (N,); paths are relative to `root`.
        attributes: N rows of strings, numbers, booleans or lists of strings; may have no columns.
        unreadable: reasons by path, of further images that cannot have an id and of folders.
        notes: messages for the user, one line each.
    """

    source: str
    root: Path
    ids: Sequence[str]
    paths: Sequence[str]
    attributes: pa.Table
    unreadable: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.ids)


def only(catalogue: Catalogue, source: str, wanted: AbstractSet[str]) -> Catalogue:
    """The images of a catalogue with the ids of `wanted`."""
    rows = [row for row, name in enumerate(catalogue.ids) if name in wanted]
    return replace(
        catalogue,
        source=source,
        ids=[catalogue.ids[row] for row in rows],
        paths=[catalogue.paths[row] for row in rows],
        attributes=catalogue.attributes.take(rows),
    )


def of_images(source: str, root: Path, rows: Iterable[ImageRow]) -> Catalogue:
    """The usable images of a data set's table, with their category as attribute."""
    found = sorted(
        (row["image_id"], row["path"], row["category"])
        for row in rows
        if row["status"] == "ok" and row["path"] is not None
    )
    paths = {image_id: path for image_id, path, _ in found}
    categories: dict[str, list[str]] = {}
    for image_id, _, category in found:
        categories.setdefault(image_id, []).append(category)
    single = all(len(own) == 1 for own in categories.values())
    values = [own[0] if single else own for own in categories.values()]
    kind = pa.string() if single else pa.list_(pa.string())
    attributes = pa.table({"category": pa.array(values, kind)})
    return Catalogue(source, root, list(paths), list(paths.values()), attributes)


def of_folder(root: Path) -> Catalogue:
    """The images of a folder: those of its product table if there is one, else all below it.

    Raises:
        UserError: if the folder does not exist or has no images, or the table is malformed.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; choose a folder of images")
    if products.tables(root):
        return of_products(root)
    unread: dict[Path, str] = {}
    paths = sorted(images_below(root, unread))
    # Without a word, the images of such a folder would be removed from the index.
    folders = {f"{as_text(os.path.relpath(p, root))}/": why for p, why in unread.items()}
    if not paths and folders:
        folder, why = next(iter(folders.items()))
        raise UserError(f"cannot read {root / folder}: {why}; check its permissions")
    if not paths:
        raise UserError(f"{root} has no images ({', '.join(SUFFIXES)}) and no {products.NAMES[0]}")
    if others := {text: NO_TEXT for path in paths if (text := as_text(path)) != path}:
        paths = [path for path in paths if as_text(path) == path]
    return Catalogue(folder_source(root), root, paths, paths, pa.table({}), others | folders)


def folder_source(root: Path) -> str:
    """The source of a folder's catalogue, as `Catalogue.source` and an index's manifest have it."""
    return f"folder {as_text(root.absolute().name)}"


def of_products(root: Path) -> Catalogue:
    """The images of a folder's product table, with their ids in the data set `catalogue`.

    Attributes are all other columns: numbers and booleans, read as for training; lists (with a
    `|`); and strings, as they are written. `category` and `product`, the product's id, always
    exist; a column `product` of the table becomes `product (table)`.

    Raises:
        UserError: if the table is malformed.
    """
    known = products.read(root)
    attributes = {one.name: one for one in known.attributes}
    given = {"product": pa.array(known.ids), "category": pa.array(known.categories)}
    for name, cells in known.cells.items():
        own = f"{name} (table)" if name in given else name
        given[own] = _column(cells, attributes.get(name))
    product = {name: row for row, own in enumerate(known.images) for name in own}
    ids = sorted(product)
    table = pa.table(given).take([product[name] for name in ids])
    found = Located(root, ids, lambda name: [known.places[name]])
    # A missing image has the table's path.
    places = {name: path.relative_to(root).as_posix() for name, path in found.items() if path}
    paths = [places.get(name, known.places[name]) for name in ids]
    notes = products.unnamed(root, known)
    return Catalogue(folder_source(root), root, ids, paths, table, notes=notes)


def _column(cells: Sequence[str | None], read: Attribute | None) -> pa.Array:
    """The cells of a column as values of one type.

    Args:
        read: the attribute that training reads them as; None if it does not use them.
    """
    values = {cell.casefold() for cell in cells if cell is not None}
    if isinstance(read, Boolean) or (values and values <= BOOLEANS):
        return pa.array([None if cell is None else cell.casefold() in TRUE for cell in cells])
    if not any(map(CODE.match, values)):
        for kind in (pa.int64(), pa.float64()):
            with suppress(pa.ArrowInvalid):
                numbers = pa.array(cells, pa.string()).cast(kind)
                return pc.if_else(pc.is_finite(numbers), numbers, None)
        if isinstance(read, Numbers):
            return pa.array(read.numbers, from_pandas=True)
    if any(sheet.LIST in value for value in values):
        lists = ([p.strip() for p in cell.split(sheet.LIST)] if cell else None for cell in cells)
        return pa.array(lists, pa.list_(pa.string()))
    return pa.array(cells, pa.string())
