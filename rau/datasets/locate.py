"""Image files found by name, as file systems and archives spell it.

A name may have any of `SUFFIXES` in any case. Where no other image has a name so alike, it may also
differ in case or in Unicode's form (macOS decomposes "é", Windows ignores case).
"""

import errno
import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rau.digests import Lookup, digests
from rau.files import walk
from rau.pictures import SUFFIXES

# There is nothing of such a name.
NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
_ROWS = 8192
Spelling = Callable[[str], str]


def _fold(name: str) -> str:
    """Normal form that is equal for all spellings of a name."""
    return unicodedata.normalize("NFC", name).casefold()


class _Files:
    """Image files below a root, found by name with or without its suffix.

    There may be very many: each takes its path and 24 bytes per way in which names are compared.
    """

    def __init__(self, folders: Iterable[pa.ChunkedArray]) -> None:
        """Take the paths of each folder, as `_listed` returns them."""
        chunks = [chunk for paths in folders for chunk in paths.chunks]
        paths = pa.chunked_array(chunks, pa.large_binary())
        ends = (pc.ends_with(paths, suffix.encode(), ignore_case=True) for suffix in SUFFIXES)
        rows = np.concatenate([np.flatnonzero(one) for one in ends])
        self._paths = paths.take(pa.array(rows))
        self._lookups: dict[tuple[Spelling, Spelling], Lookup] = {}

    def find(self, name: str, alone: Callable[[], bool]) -> str | None:
        """The path of the file of a name.

        Full file names take precedence over stems, then suffixes in the order of `SUFFIXES`.

        Args:
            alone: whether no other name is so alike; only then an alternative spelling is found.
        """
        spellings = (str, stem) if _suffix(name) in SUFFIXES else (stem,)
        for form in (str, _fold):
            if form is _fold and not alone():
                return None
            for spelling in spellings:
                row = self._lookup(spelling, form).find(digests([form(name)]))[0]
                if row >= 0:
                    return os.fsdecode(self._paths[int(row)].as_py())
        return None

    def _lookup(self, spelling: Spelling, form: Spelling) -> Lookup:
        if (key := (spelling, form)) not in self._lookups:
            names = (path.rpartition("/")[2] for path in self._all())
            self._lookups[key] = Lookup(digests(form(spelling(name)) for name in names))
        return self._lookups[key]

    def _all(self) -> Iterator[str]:
        for start in range(0, len(self._paths), _ROWS):
            yield from map(os.fsdecode, self._paths.slice(start, _ROWS).to_pylist())


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()  # noqa: PTH122 - a million paths are slow


def _shared(names: Iterable[str]) -> Lookup:
    """The normal forms that several names have."""
    forms, times = np.unique(digests(map(_fold, names)), return_counts=True)
    return Lookup(forms[times > 1])


class Located(Mapping[str, Path | None]):
    """The file of each image by id, looked up when asked for; None if there is no file.

    Each folder is listed once.

    Attributes:
        others: files elsewhere, by id, of images that have none here.
    """

    def __init__(
        self, root: Path, ids: Collection[str], places: Callable[[str], Sequence[str]]
    ) -> None:
        """Find files below the folder of a data set.

        Args:
            ids: distinct ids.
            places: of an id, paths under `root` with or without suffix, in the order to try.
        """
        self._root, self._ids, self._places = root, ids, places
        self.others: Mapping[str, Path] = {}
        self._folders: dict[str, _Files] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __getitem__(self, image_id: str) -> Path | None:
        places = self._places(image_id)
        for place in places:
            folder, _, name = place.rpartition("/")
            if folder not in self._folders:
                self._folders[folder] = _Files([_listed(self._root, folder)])
            if found := self._folders[folder].find(
                name, lambda: _fold(places[0]) not in self._shared
            ):
                return self._root / found
        return self.others.get(image_id)

    @cached_property
    def _shared(self) -> Lookup:
        return _shared(self._places(image_id)[0] for image_id in self._ids)


def search(root: Path, names: Collection[str]) -> dict[str, Path]:
    """Files anywhere below a folder by name without suffix, for the given names."""
    files = _Files(_listed(root, folder.relative_to(root).as_posix()) for folder, _ in walk(root))
    shared = _shared(names)
    found = {}
    for name in names:
        if path := files.find(name, lambda name=name: _fold(name) not in shared):  # type: ignore[misc]
            found[name] = root / path
    return found


def images_below(root: Path, unread: dict[Path, str] | None = None) -> Iterator[str]:
    """Images below a folder, as paths relative to it; hidden files and folders are left out.

    Args:
        unread: as in `rau.files.walk`.
    """
    for folder, names in walk(root, unread):
        for name in names:
            if _suffix(name) in SUFFIXES:
                yield (folder / name).relative_to(root).as_posix()


def left_over(root: Path, named: Iterable[str]) -> list[str]:
    """Images below a folder that none of some paths names, sorted.

    Args:
        named: paths under `root`, each with or without its suffix, in any spelling.
    """
    known = {_fold(stem(place)) for place in named}
    return sorted(path for path in images_below(root) if _fold(stem(path)) not in known)


def _listed(root: Path, folder: str) -> pa.ChunkedArray:
    """Sorted paths under `root` of the image files in a folder; empty if it does not exist."""
    blocks = []
    try:
        with os.scandir(root / folder) as entries:
            names = (e.name for e in entries if _suffix(e.name) in SUFFIXES and _is_file(e))
            files = (f"{folder}/{name}" if folder else name for name in names)
            while block := [*map(os.fsencode, islice(files, _ROWS))]:
                blocks.append(pa.array(block, pa.large_binary()))
    except OSError as error:
        if error.errno not in NOWHERE:
            raise
        return pa.chunked_array([], pa.large_binary())
    paths = pa.chunked_array(blocks, pa.large_binary())
    return paths.take(pc.sort_indices(paths))


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
