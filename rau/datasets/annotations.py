"""The common result of every reader: images, queries and galleries."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as attribute
from operator import ne
from pathlib import Path
from typing import Any, TypeGuard

import pyarrow as pa

from rau.errors import UserError
from rau.files import read_json
from rau.schemas import GALLERIES, IMAGES, QUERIES, QueryRow

# Metrics are named by category; the mean over categories has this name.
CATEGORY, MEAN = re.compile(r"\w[\w \-]{0,63}"), "mean"
_ROWS = 8192


@dataclass(frozen=True)
class Annotations:
    """One folder's annotation files, in file order.

    Attributes:
        splits: image ids by (category, split).
        queries: rows of schema `QUERIES`.
        galleries: members by gallery and category, sorted by id: the order that breaks ties.
        places: candidate paths of an image id relative to the folder, without suffix, most likely
            first.
        files: the files that were read, by their path in the official layout.
        notes: notes on the folder for the user, one line each.
    """

    splits: dict[tuple[str, str], list[str]]
    queries: list[QueryRow]
    galleries: dict[str, dict[str, list[str]]]
    places: Callable[[str], list[str]]
    files: Mapping[str, Path] = attribute(default_factory=dict)
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuse categories that reports and MLflow could not distinguish.

        Raises:
            UserError: naming the category.
        """
        by_name: dict[str, str] = {}
        for name in sorted({category for category, _ in self.splits}):
            if not CATEGORY.fullmatch(name) or name.casefold() == MEAN:
                raise UserError(
                    f"a category cannot be named {name!r}; use letters, digits, _ and -, but not "
                    f"{MEAN!r}, which is reserved for the mean over categories"
                )
            if (other := by_name.setdefault(name.casefold(), name)) != name:
                raise UserError(
                    f"categories {other!r} and {name!r} differ only in case; rename one"
                )

    @property
    def image_ids(self) -> list[str]:
        """Every distinct image id of every split, in order of first appearance."""
        return list(dict.fromkeys(i for ids in self.splits.values() for i in ids))

    def tables(self, manifest: pa.Table) -> dict[str, pa.Table]:
        """The tables `images`, `queries` and `galleries`.

        Raises:
            UserError: when the manifest is of other annotations.
        """
        category_of: dict[str, str] = {}
        for (category, _), ids in self.splits.items():
            for image_id in ids:
                category_of.setdefault(image_id, category)
        listed = (i for chunk in manifest["image_id"].chunks for i in _names(chunk))
        if len(manifest) != len(category_of) or any(map(ne, listed, category_of)):
            raise UserError(
                "the annotations have changed since the images were listed; run "
                "`python -m pipeline.download` again"
            )
        categories = pa.array([*category_of.values()], pa.string())
        images = manifest.append_column("category", categories).select(IMAGES.names)
        return {
            "images": images,
            "queries": self.query_table(),
            "galleries": self.gallery_table(),
        }

    def query_table(self) -> pa.Table:
        """The table `queries`."""
        return pa.Table.from_pylist(self.queries, schema=QUERIES)

    def gallery_table(self) -> pa.Table:
        """The table `galleries`."""
        members = [
            {"gallery": gallery, "category": category, "image_id": image_id}
            for gallery, categories in self.galleries.items()
            for category, ids in categories.items()
            for image_id in ids
        ]
        return pa.Table.from_pylist(members, schema=GALLERIES)


def _names(ids: pa.StringArray) -> Iterator[str]:
    """Ids as strings, some at a time: of many images, all at once take much memory."""
    for start in range(0, len(ids), _ROWS):
        yield from ids.slice(start, _ROWS).to_pylist()


def passed_over(folder: Path, read: Iterable[Path]) -> list[str]:
    """A note on files in a folder of annotations that are not read; empty if there are none."""
    others = sorted({path.name for path in folder.iterdir()} - {path.name for path in read})
    if not others:
        return []
    named = ", ".join(map(repr, others[:3])) + (", …" if len(others) > 3 else "")
    return [f"{folder.name}/ also contains {len(others):,} files that are not read: {named}"]


def no_captions(root: Path, name: str) -> UserError:
    """The error for a folder without captions; suggests a nearby folder that has some."""
    near = [path for path in (root.parent / "captions", *root.glob("*/captions")) if path.is_dir()]
    hint = f"; did you mean {near[0].parent}?" if near else ""
    return UserError(f"{root} contains no captions/{name}; check dataset.root{hint}")


def entries(path: Path) -> list[Any]:
    """The queries of a captions file.

    Raises:
        UserError: when it is missing or not a list.
    """
    found = read_json(path, "captions file")
    if not isinstance(found, list):
        raise UserError(
            f"captions file {path} is not a list of queries (in pandas, orient='records')"
        )
    return found


def are_strings(value: Any) -> TypeGuard[list[str]]:
    """Whether a value is a list of strings."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def check_entry(entry: Any, where: str, strings: list[str], others: list[str]) -> None:
    """Refuse a query without one of the keys, or whose `strings` are not strings.

    Raises:
        UserError: naming the place and the key.
    """
    if not isinstance(entry, dict):
        raise UserError(f"{where}: not an object; fetch the file again")
    if missing := sorted({*strings, *others} - set(entry)):
        raise UserError(f"{where}: no key {missing[0]!r}; fix the row or fetch the file again")
    for key in sorted(strings):
        if not isinstance(entry[key], str):
            raise UserError(f"{where}: {key!r} is not a string; fix the row")


def check_listed(
    entry: Mapping[str, object], where: str, keys: dict[str, str], known: set[str]
) -> None:
    """Refuse a query of an image that its split file does not list.

    Args:
        keys: the query's field by the key of the annotation file.

    Raises:
        UserError: naming the place and the id.
    """
    for key, field in keys.items():
        if entry[field] is not None and entry[field] not in known:
            raise UserError(f"{where}: {key} {entry[field]!r} is not in its split file")
