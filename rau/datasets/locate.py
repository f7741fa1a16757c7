"""Image files found by name, as file systems and archives spell it.

A name may have any of `SUFFIXES` in any case. Where no other image has a name so alike, it may also
differ in case or in Unicode's form (macOS decomposes "é", Windows ignores case).
"""

import errno
import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from rau.files import walk
from rau.pictures import SUFFIXES

# There is nothing of such a name.
NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


def _fold(name: str) -> str:
    """Normal form that is equal for all spellings of a name."""
    return unicodedata.normalize("NFC", name).casefold()


class _Files:
    """Image files by name, with or without its suffix."""

    def __init__(self, paths: Iterable[str]) -> None:
        """Full file names take precedence over stems, then suffixes in the order of `SUFFIXES`."""
        self._exact: dict[str, str] = {}
        self._alike: dict[str, str] = {}
        known = [(SUFFIXES.index(s), path) for path in paths if (s := _suffix(path)) in SUFFIXES]
        by_suffix = [path for _, path in sorted(known, key=lambda one: one[0])]
        for spelling in (str, stem):
            for path in by_suffix:
                name = spelling(os.path.basename(path))  # noqa: PTH119 - a million paths are slow
                self._exact.setdefault(name, path)
                self._alike.setdefault(_fold(name), path)

    def find(self, name: str, alone: bool) -> str | None:
        """The file of a name; an alternative spelling only if the name is unambiguous (`alone`)."""
        return self._exact.get(name) or (self._alike.get(_fold(name)) if alone else None)


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()  # noqa: PTH122 - a million paths are slow


def _alone(names: Collection[str]) -> set[str]:
    """The names whose normal form is unique."""
    count = Counter(map(_fold, names))
    return {name for name in names if count[_fold(name)] == 1}


def locate(root: Path, images: Mapping[str, Sequence[str]]) -> dict[str, Path | None]:
    """The files of images by id; None if there is no file.

    Args:
        root: the folder of a data set.
        images: by id, paths under `root` without suffix, in the order to try.
    """
    folders: dict[str, _Files] = {}
    alone = _alone([places[0] for places in images.values()])

    def find(places: Sequence[str]) -> Path | None:
        for place in places:
            folder, _, name = place.rpartition("/")
            if folder not in folders:
                folders[folder] = _Files(_listed(root / folder))
            if found := folders[folder].find(name, places[0] in alone):
                return Path(found)
        return None

    return {image_id: find(places) for image_id, places in images.items()}


def search(root: Path, names: Collection[str]) -> dict[str, Path]:
    """Files anywhere below a folder by name without suffix, for the given names."""
    files = _Files(path for folder, _ in walk(root) for path in _listed(folder))
    alone = _alone(names)
    found = {name: files.find(name, name in alone) for name in names}
    return {name: Path(path) for name, path in found.items() if path is not None}


def pictures_below(root: Path) -> Iterator[str]:
    """Pictures below a folder, as paths relative to it; hidden files and folders are left out."""
    for folder, names in walk(root):
        for name in names:
            if _suffix(name) in SUFFIXES:
                yield (folder / name).relative_to(root).as_posix()


def left_over(root: Path, named: Iterable[str]) -> list[str]:
    """Pictures below a folder that none of some paths names, sorted.

    Args:
        named: paths under `root`, each with or without its suffix, in any spelling.
    """
    known = {_fold(stem(place)) for place in named}
    return sorted(path for path in pictures_below(root) if _fold(stem(path)) not in known)


def _listed(folder: Path) -> list[str]:
    """Sorted paths of the files in a folder; empty if the folder does not exist."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.path for entry in entries if _is_file(entry))
    except OSError as error:
        if error.errno not in NOWHERE:
            raise
        return []


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file; a broken link is not."""
    try:
        return entry.is_file()
    except OSError as error:
        if error.errno not in NOWHERE:
            raise
        return False


def stem(place: str) -> str:
    """A path without its image suffix, if it has one."""
    suffix = _suffix(place)
    return place[: -len(suffix)] if suffix in SUFFIXES else place
