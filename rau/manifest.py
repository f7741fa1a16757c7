"""The manifest: one row an image, with what was found on disk."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image, ImageFile
from tqdm import tqdm

from rau.errors import UserError
from rau.schemas import MANIFEST

SUFFIXES = (".jpg", ".png")
MAX_BYTES = 64 * 2**20
MAX_PIXELS = 64 * 10**6


def check_image_id(image_id: str) -> str:
    """Refuse an id that would leave the images' folder."""
    if not image_id or image_id.startswith(".") or set(image_id) & set("/\\\0"):
        raise UserError(f"image id {image_id!r} is not a plain file name; mend the split file")
    return image_id


def inspect_image(root: Path, source: str, image_id: str, places: Sequence[str]) -> dict[str, Any]:
    """Decode one image in full and describe it as a manifest row (`ok`, `missing`, `corrupt`)."""
    row: dict[str, Any] = dict.fromkeys(MANIFEST.names)
    row |= {"image_id": image_id, "source": source, "status": "missing"}
    path = next((path for place in places if (path := root / place).is_file()), None)
    if path is None:
        return row
    size = path.stat().st_size
    row |= {"path": path.relative_to(root).as_posix(), "bytes": size, "status": "corrupt"}
    if size > MAX_BYTES:
        return row
    content = path.read_bytes()
    row["sha256"] = hashlib.sha256(content).hexdigest()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(BytesIO(content), formats=("JPEG", "PNG", "WEBP", "GIF")) as image:
                if image.width * image.height > MAX_PIXELS:
                    return row
                image.load()
                row |= {"width": image.width, "height": image.height, "status": "ok"}
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        pass  # Pillow's ways of saying that the bytes are no image: the row says `corrupt`.
    return row


def build(root: Path, images: Mapping[str, Sequence[str]], source: str, workers: int) -> pa.Table:
    """Inspect every image of a store.

    Args:
        root: the store's folder.
        images: where under `root` the file of an image may lie, by id, in the order of the rows.
        source: where the images came from, kept in the manifest.

    Returns:
        A table of schema `MANIFEST`.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError("Pillow is set to accept truncated images; the manifest would lie")
    ids = [check_image_id(image_id) for image_id in images]
    with ThreadPoolExecutor(workers) as pool:
        found = pool.map(partial(inspect_image, root, source), ids, images.values())
        rows = list(tqdm(found, total=len(ids), desc="verify images", unit="image"))
    return pa.Table.from_pylist(rows, schema=MANIFEST)


def corrupt_files(manifest: pa.Table, root: Path) -> list[Path]:
    """Files that are there and are no whole images."""
    rows = manifest.select(["path", "status"]).to_pylist()
    return [root / row["path"] for row in rows if row["status"] == "corrupt"]


def check_coverage(manifest: pa.Table, allow_missing: bool, root: Path) -> str:
    """Say how many images are there.

    Raises:
        UserError: on a gap, unless `allow_missing`.
    """
    status = manifest["status"].to_pylist()
    ids = manifest["image_id"].to_pylist()
    gaps = [f"{i} ({s})" for i, s in zip(ids, status, strict=True) if s != "ok"]
    line = f"{len(ids) - len(gaps):,} of {len(ids):,} images"
    if gaps and not allow_missing:
        named = ", ".join(gaps[:5]) + (", …" if len(gaps) > 5 else "")
        raise UserError(
            f"{line} in {root}: {named}; complete the folder or set dataset.allow_missing=true"
        )
    return line
