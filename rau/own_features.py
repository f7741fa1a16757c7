"""Features of the user's own, from any encoder, in place of those that the encoder would make.

A folder holds `images.parquet` (image_id, feature) and `texts.parquet` (text, feature). The two may
have different widths and lie in different spaces; more rows than are needed are fine.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rau.errors import UserError
from rau.features import SEPARATE, Features, read_features, write_features
from rau.files import digest_files

COLUMNS = {"images": "image_id", "texts": "text"}


def _needed(features: Features, names: Sequence[str], path: Path, column: str) -> Features:
    """The rows of `names`, all of them finite."""
    index = {name: row for row, name in enumerate(features.names)}
    if absent := [name for name in names if name not in index]:
        named = ", ".join(map(repr, absent[:3]))
        raise UserError(
            f"{path} lacks {len(absent):,} of {len(names):,} rows, the first: {named}; "
            f"`python -m pipeline.features --list FOLDER` writes every {column} that is needed"
        )
    matrix = features.matrix[[index[name] for name in names]]
    bad = ~np.isfinite(matrix).all(axis=1)
    if bad.any():
        raise UserError(f"{path}: the feature of {names[int(bad.argmax())]!r} is not finite")
    return Features(list(names), matrix, {})


def take(source: Path, needed: Mapping[str, Sequence[str]], targets: Mapping[str, Path]) -> None:
    """Copy what is needed from the user's folder into the pipeline's tables.

    Args:
        source: the user's folder.
        needed: image ids under `images`, strings under `texts`.
        targets: where the tables go, by the same names.

    Raises:
        UserError: when a file is missing or of another form, lacks rows, or is not finite.
    """
    paths = {kind: source / f"{kind}.parquet" for kind in COLUMNS}
    if missing := [path for path in paths.values() if not path.is_file()]:
        raise UserError(f"features.source: {missing[0]} is missing; see the README for its form")
    metadata = {
        "encoder": "features.source",
        "weights": source.name,
        "preprocess": "the user's own",
        "key": digest_files(paths.values())[:16],
        "space": SEPARATE,
    }
    taken = {
        kind: _needed(read_features(paths[kind], column), needed[kind], paths[kind], column)
        for kind, column in COLUMNS.items()
    }
    for kind, column in COLUMNS.items():
        write_features(targets[kind], column, taken[kind].names, taken[kind].matrix, metadata)
