"""Images that the user already has, linked into the store instead of copied."""

import os
from pathlib import Path

from tqdm import tqdm

from rau.download.image_store import ImageStore
from rau.errors import UserError

SOURCE = "dataset.images"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def link_images(folder: Path, store: ImageStore) -> str:
    """Link every missing image found anywhere under `folder` as `<image id>.<suffix>`.

    Returns:
        The outcome as text.

    Raises:
        UserError: when there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"dataset.images: no folder {folder}; check the path")
    found: dict[str, Path] = {}
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a million paths are slow
            if suffix.lower() in SUFFIXES and stem in store.missing:
                found.setdefault(stem, Path(place) / name)
    unusable = 0
    for image_id, path in tqdm(found.items(), desc="link images", unit="image"):
        unusable += not store.link(image_id, path, SOURCE)
    note = f", {unusable:,} of them not valid" if unusable else ""
    return f"{len(found):,} of the wanted images found{note}"
