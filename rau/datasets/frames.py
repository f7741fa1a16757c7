"""A data set's annotations as pandas frames, for use outside the pipeline."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rau.datasets.readers import reader
from rau.errors import UserError
from rau.layouts import LAYOUTS


@dataclass(frozen=True)
class Dataset:
    """Annotations as frames.

    Attributes:
        queries: a row per query: `query_id`, `split`, `category`, `reference_id`, `target_id`,
            `captions`, and where the data set has them `members` (CIRR's set) and `relevant` (all
            true answers).
        galleries: a row per image of a gallery: `gallery`, `category`, `image_id`.
    """

    queries: pd.DataFrame
    galleries: pd.DataFrame


def read_frames(name: str, root: Path) -> Dataset:
    """See `rau.datasets.read`."""
    if name not in LAYOUTS:
        raise UserError(f"unknown data set {name!r}; choose from {', '.join(LAYOUTS)}")
    if not root.is_dir():
        raise UserError(f"folder {root} does not exist; check the path")
    found = reader(name).read_annotations(root)
    return Dataset(found.query_table().to_pandas(), found.gallery_table().to_pandas())
