"""Precomputed features, from any encoder, instead of those of the stage `encoder`.

A folder holds `images.parquet` (image_id, feature) and `texts.parquet` (text, feature). The two may
have different widths and lie in different spaces; more rows than are needed are fine.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from rau.errors import UserError
from rau.features.table import (
    GROUP_ROWS,
    SEPARATE,
    SHARED,
    Features,
    Matrix,
    read_features,
    write_features,
)
from rau.files import digest, digest_files

COLUMNS = {"images": "image_id", "texts": "text"}


def _rows(features: Features, names: Sequence[str], path: Path, column: str) -> list[int]:
    """The rows of `names`, all of them finite."""
    if absent := [name for name in names if name not in features.index]:
        named = ", ".join(map(repr, absent[:3]))
        raise UserError(
            f"{path} lacks {len(absent):,} of {len(names):,} rows, the first: {named}; "
            f"`python -m pipeline.features --list FOLDER` writes every {column} that is needed"
        )
    rows = [features.index[name] for name in names]
    finite = np.concatenate([np.isfinite(block).all(axis=1) for block in _blocks(features, rows)])
    if not finite.all():
        raise UserError(f"{path}: the feature of {names[int(finite.argmin())]!r} is not finite")
    return rows


def _blocks(features: Features, rows: Sequence[int]) -> Iterator[Matrix]:
    """The matrix of these rows, block after block: it is never there twice."""
    for start in range(0, max(1, len(rows)), GROUP_ROWS):
        yield features.matrix[list(rows[start : start + GROUP_ROWS])]


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
        UserError: when a file is missing or of another form, lacks rows, or is not finite, or the
            widths of a shared space differ.
    """
    paths = {kind: source / f"{kind}.parquet" for kind in COLUMNS}
    if missing := [path for path in paths.values() if not path.is_file()]:
        raise UserError(f"features.source: {missing[0]} is missing; see the README for its form")
    space = SHARED if shared_space else SEPARATE
    metadata = {
        "encoder": "features.source",
        "weights": source.name,
        "preprocess": "the user's own",
        "key": digest([digest_files(paths.values()), space], 16),
        "space": space,
    }
    given = {kind: read_features(paths[kind], column) for kind, column in COLUMNS.items()}
    rows = {
        kind: _rows(given[kind], needed[kind], paths[kind], column)
        for kind, column in COLUMNS.items()
    }
    widths = {kind: features.matrix.shape[1] for kind, features in given.items()}
    if shared_space and len(set(widths.values())) > 1:
        raise UserError(
            f"features.shared_space=true: images are {widths['images']} wide, texts "
            f"{widths['texts']}; a shared space has one width"
        )
    for kind, column in COLUMNS.items():
        blocks = _blocks(given[kind], rows[kind])
        write_features(targets[kind], column, needed[kind], blocks, metadata)
