"""Images that the user already has: linked into the store, or read in place."""

from collections.abc import Collection, Container
from pathlib import Path

from rau.datasets.locate import search
from rau.datasets.manifest import COMPLETED
from rau.download.image_store import ImageStore
from rau.errors import UserError
from rau.progress import tqdm


def find_images(folder: Path, wanted: Collection[str], missing: Container[str]) -> dict[str, Path]:
    """Files anywhere under `folder` with the names of missing images, by id.

    Args:
        wanted: all ids; an alternative spelling of a name counts only if it is unambiguous.

    Raises:
        UserError: when there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"dataset.images: no folder {folder}; check the path")
    found = search(folder, wanted)
    return {image_id: path for image_id, path in found.items() if image_id in missing}


def link_images(folder: Path, store: ImageStore) -> str:
    """Link every missing image that is found under `folder`.

    Returns:
        The outcome as text.

    Raises:
        UserError: when there is no such folder.
    """
    found = find_images(folder, store.wanted, store.missing)
    unusable = 0
    for image_id, path in tqdm(found.items(), desc="link images", unit="image"):
        unusable += not store.link(image_id, path, COMPLETED)
    note = f", {unusable:,} of them invalid" if unusable else ""
    return f"{len(found):,} missing images found{note}"
