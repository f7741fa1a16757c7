"""What is to be indexed: pictures with their ids and attributes, of a folder or of a data set."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from rau.errors import UserError
from rau.pictures import SUFFIXES
from rau.schemas import ImageRow

if TYPE_CHECKING:
    import pandas as pd

TABLES = ("products.csv", "products.parquet")


@dataclass(frozen=True)
class Catalogue:
    """Pictures, each with an id of its own, in the order of their ids.

    Attributes:
        source: what it is, in words.
        ids, paths: (N,); paths are relative to `root`.
        attributes: N rows of strings, numbers, booleans or lists of strings; perhaps no column.
    """

    source: str
    root: Path
    ids: Sequence[str]
    paths: Sequence[str]
    attributes: pa.Table

    def __len__(self) -> int:
        return len(self.ids)


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
    tables = [root / name for name in TABLES if (root / name).is_file()]
    if len(tables) > 1:
        raise UserError(f"{root} has {' and '.join(TABLES)}; keep one of them")
    if tables:
        return _of_table(root, tables[0])
    paths = sorted(_pictures(root))
    if not paths:
        raise UserError(f"{root} has no pictures ({', '.join(SUFFIXES)}) and no {TABLES[0]}")
    return Catalogue(root.name, root, paths, paths, pa.table({}))


def _pictures(root: Path) -> Iterable[str]:
    """Pictures below a folder, relative to it; hidden files and folders are left out."""
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and name.lower().endswith(SUFFIXES):
                yield (Path(folder) / name).relative_to(root).as_posix()


def _of_table(root: Path, path: Path) -> Catalogue:
    """The rows of a product table: `image`, perhaps `id`, and attributes; lists have a `|`."""
    import pandas as pd

    from rau.schemas import read_csv, read_parquet

    remedy = "see docs/catalogue.md"
    if path.suffix == ".csv":
        frame = read_csv(path, ["image"], remedy)
    else:
        frame = read_parquet(path, remedy).to_pandas()
    if "image" not in frame or frame.empty:
        raise UserError(f"{path} has no column image or no rows; {remedy}")
    if frame["image"].isna().any():
        raise UserError(f"{path}: a row has no image; {remedy}")
    images = [_inside(path, str(value)) for value in frame["image"]]
    ids = [str(value) for value in frame["id"]] if "id" in frame else images
    if len(set(ids)) < len(ids):
        again = next(name for name in ids if ids.count(name) > 1)
        raise UserError(f"{path}: {again} stands twice; give every row an id of its own")
    frame = frame.drop(columns=["image", "id"], errors="ignore")
    columns = {str(name): _column(frame[name]) for name in frame}
    order = pd.Series(ids).argsort().tolist()
    table = pa.table(columns).take(order) if columns else pa.table({})
    return Catalogue(root.name, root, [ids[i] for i in order], [images[i] for i in order], table)


def _inside(table: Path, image: str) -> str:
    """A picture's place as a table names it: below the table's folder."""
    place = PurePosixPath(image)
    if place.is_absolute() or ".." in place.parts or "\0" in image:
        raise UserError(f"{table}: image {image!r} is not below the table's folder")
    return place.as_posix()


def _column(values: "pd.Series[Any]") -> pa.Array:
    """A column of strings, numbers or booleans, or of lists where a string has a `|`."""
    array = pa.Array.from_pandas(values)
    if pa.types.is_large_string(array.type) or pa.types.is_dictionary(array.type):
        array = array.cast(pa.string())
    if pa.types.is_string(array.type) and pc.any(pc.match_substring(array, "|")).as_py():
        parts = pc.split_pattern(array, "|")
        return pa.array(
            [None if row is None else [p.strip() for p in row] for row in parts.to_pylist()],
            pa.list_(pa.string()),
        )
    kind = array.type
    if pa.types.is_integer(kind):
        return array.cast(pa.int64())
    if pa.types.is_floating(kind):
        return array.cast(pa.float64())
    if pa.types.is_string(kind) or pa.types.is_boolean(kind):
        return array
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return array.cast(pa.list_(pa.string()))
    return pa.array([None if v is None else str(v) for v in array.to_pylist()], pa.string())
