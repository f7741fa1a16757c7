"""Data sets: each module knows one layout or draws one set; `read` reads any of them."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rau.datasets.frames import Dataset


def read(name: str, root: str | Path) -> "Dataset":
    """Read a folder of annotations, without its images.

    Args:
        name: `fashioniq`, `cirr` or another value of `dataset.name`, whose layout the folder has
            (docs/datasets.md); garments are in FashionIQ's layout.

    Returns:
        Queries and galleries as frames.

    Raises:
        UserError: when there is no such data set, or the folder is not in its layout.

    >>> data = rau.datasets.read("fashioniq", annotations)
    >>> data.queries[["query_id", "split", "reference_id", "target_id"]].loc[0].tolist()
    ['dress-train-0', 'train', 'D00000', 'D00003']
    """
    from rau.datasets.frames import read_frames

    return read_frames(name, Path(root))
