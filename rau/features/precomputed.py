"""Precomputed features, from any encoder, instead of those of the stage `encoder`.

A folder holds images (image_id, feature) and texts (text, feature), each as `images.parquet`, as a
folder of that name or of the name `images`, or as several files `images-….parquet`, as pandas and
others write them: the columns in any order and beside others, ids as text or integers, features as
lists of any kind of number, all of one length. Images and texts may have different widths and
spaces; more rows than are needed are fine.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rau.errors import UserError
from rau.features.table import GROUP_ROWS, SEPARATE, SHARED, Matrix, write_features
from rau.files import digest, digest_files
from rau.schemas import reading_parquet

# The name of their encoder, which nobody knows here.
SOURCE = "features.source"
COLUMNS = {"images": "image_id", "texts": "text"}
REMEDY = "see docs/datasets.md, Features from any encoder"
ROWS = 1024
LISTS = (pa.ListType, pa.LargeListType, pa.FixedSizeListType)


def take(
    source: Path,
    needed: Mapping[str, Sequence[str]],
    targets: Mapping[str, Path],
    shared_space: bool = False,
) -> None:
    """Copy what is needed from the user's folder into the pipeline's tables.

    Args:
        source: the user's folder.
        needed: image ids under `images`, strings under `texts`.
        targets: where the tables go, by the same names.
        shared_space: whether a text and the image it describes lie close together, as with CLIP.

    Raises:
        UserError: when a file is missing or of another form, a needed row is missing, there twice,
            all zeros or not finite, or the widths of a shared space differ.
    """
    paths = {kind: _files(source, kind) for kind in COLUMNS}
    space = SHARED if shared_space else SEPARATE
    metadata = {
        "encoder": SOURCE,
        "weights": source.name,
        "preprocess": "the user's own",
        "key": digest([digest_files([p for own in paths.values() for p in own]), space], 16),
        "space": space,
    }
    found = {kind: _Rows(column, needed[kind]) for kind, column in COLUMNS.items()}
    for kind, rows in found.items():
        for path in paths[kind]:
            rows.read(path)
        rows.check(source / kind)
    widths = {kind: rows.matrix.shape[1] for kind, rows in found.items()}
    if shared_space and len(set(widths.values())) > 1:
        raise UserError(
            f"features.shared_space=true: images are {widths['images']} wide, texts "
            f"{widths['texts']}; a shared space has one width"
        )
    for kind, column in COLUMNS.items():
        matrix = found[kind].matrix
        groups = (matrix[start : start + GROUP_ROWS] for start in range(0, len(matrix), GROUP_ROWS))
        write_features(targets[kind], column, needed[kind], groups, metadata)


def _files(source: Path, kind: str) -> list[Path]:
    """The Parquet files of images or texts.

    Raises:
        UserError: when there is none.
    """
    single = source / f"{kind}.parquet"
    if single.is_file():
        return [single]
    for folder, names in ((single, "*"), (source / kind, "*"), (source, f"{kind}-*")):
        if found := sorted(path for path in folder.glob(f"{names}.parquet") if path.is_file()):
            return found
    raise UserError(f"features.source: {single} is missing; {REMEDY}")


class _Rows:
    """The needed rows of a table that may be in several files; `matrix` is (N, d)."""

    def __init__(self, column: str, needed: Sequence[str]) -> None:
        self._column = column
        self._needed = needed
        self._row_of = {name: row for row, name in enumerate(needed)}
        self._times = np.zeros(len(needed), dtype=np.int64)
        self._finite = np.ones(len(needed), dtype=bool)
        self._zero = np.ones(len(needed), dtype=bool)
        self.matrix: Matrix = np.empty((len(needed), 0), np.float32)

    def read(self, path: Path) -> None:
        """Take the needed rows of a file.

        Raises:
            UserError: naming the column that is wrong, and how.
        """
        with reading_parquet(path, REMEDY), pq.ParquetFile(path) as file:
            columns = [self._column, "feature"]
            if absent := [name for name in columns if name not in file.schema_arrow.names]:
                has = ", ".join(file.schema_arrow.names)
                raise UserError(f"{path} has no column {absent[0]}, but {has}; {REMEDY}")
            for batch in filter(len, file.iter_batches(ROWS, columns=columns)):
                names = as_names(batch.column(self._column), path, self._column)
                self._put(names, as_matrix(batch.column("feature"), path, names), path)

    def _put(self, names: list[str], features: Matrix, path: Path) -> None:
        if not self.matrix.shape[1]:
            self.matrix = np.zeros((len(self._needed), features.shape[1]), np.float16)
        if features.shape[1] != self.matrix.shape[1]:
            raise UserError(
                f"{path}: the feature of {names[0]!r} has {features.shape[1]} values, others have "
                f"{self.matrix.shape[1]}; {REMEDY}"
            )
        if features.dtype != np.float16:
            # Files may differ, and this one may come after others of less precision.
            self.matrix = self.matrix.astype(np.float32, copy=False)
        rows = np.array([self._row_of.get(name, -1) for name in names])
        wanted = rows >= 0
        np.add.at(self._times, rows[wanted], 1)
        with np.errstate(over="ignore"):
            own = features[wanted].astype(self.matrix.dtype)
        self.matrix[rows[wanted]] = own
        self._finite[rows[wanted]] = np.isfinite(own).all(axis=1)
        self._zero[rows[wanted]] = (own == 0).all(axis=1)

    def check(self, place: Path) -> None:
        """Refuse a table that lacks needed rows or has one twice, zero or not finite.

        Raises:
            UserError: with their number and the first of them.
        """
        left_out = ", or remove their images and set dataset.allow_missing=true"
        some = self._column == "image_id" and not self._zero.all()
        again = "encode them again" + left_out * some
        listed = f"`python -m pipeline.features --list FOLDER` writes every {self._column} needed"
        for bad, what, remedy in (
            (self._times == 0, "missing", listed),
            (self._times > 1, "there twice", "leave one of each"),
            (~self._finite, "not finite", again),
            (self._zero, "all zeros, as where an encoder failed", again),
        ):
            if count := np.count_nonzero(bad):
                named = ", ".join(repr(self._needed[row]) for row in np.flatnonzero(bad)[:3])
                raise UserError(
                    f"features.source: {count:,} of the {len(bad):,} needed features in {place} "
                    f"are {what}, the first: {named}; {remedy}"
                )


def as_names(column: pa.Array, path: Path | str, name: str) -> list[str]:
    """Names as text.

    Raises:
        UserError: when one is null or of another type.
    """
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not (text or pa.types.is_integer(kind)):
        raise UserError(f"{path}: {name} is {kind}, not text or integers; {REMEDY}")
    if column.null_count:
        raise UserError(f"{path}: {name} is null in {column.null_count:,} rows; remove them")
    column.validate(full=True)  # Text may be no UTF-8.
    return [str(one) for one in column.to_pylist()]


def as_matrix(column: pa.Array, path: Path | str, names: list[str]) -> Matrix:
    """Features (N, d) of lists of numbers.

    Raises:
        UserError: when they are anything else, or of several lengths.
    """
    lists = column.storage if isinstance(column, pa.ExtensionArray) else column
    kind = lists.type
    value = kind.value_type if isinstance(kind, LISTS) else pa.null()
    if not (pa.types.is_floating(value) or pa.types.is_integer(value)):
        raise UserError(f"{path}: feature is {kind}, not lists of numbers; {REMEDY}")
    flat = lists.flatten()
    if lists.null_count or flat.null_count:
        raise UserError(f"{path}: feature is null, or holds a null; remove these rows")
    lengths = pc.list_value_length(lists).to_numpy()
    if odd := np.flatnonzero(lengths != lengths[:1]).tolist():
        raise UserError(
            f"{path}: the feature of {names[odd[0]]!r} has {lengths[odd[0]]} values, that of "
            f"{names[0]!r} {lengths[0]}; {REMEDY}"
        )
    return np.asarray(flat).reshape(len(lists), -1)
