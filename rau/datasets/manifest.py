"""The manifest: one row per image, with what was found on disk."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rau.ahead import ahead
from rau.datasets.image_files import inspect
from rau.errors import UserError
from rau.files import as_text, patiently, read_at_most
from rau.pictures import MAX_BYTES, TOO_LARGE
from rau.progress import tqdm
from rau.schemas import MANIFEST

BLOCK_ROWS = 8192
FOUND, COMPLETED = "the folder", "dataset.images"
WHOLE = "run `dvc repro --force --single-item download`"


def check_image_id(image_id: str) -> str:
    """Refuse an id that would leave the images' folder."""
    if not image_id or image_id.startswith(".") or set(image_id) & set("/\\\0"):
        raise UserError(f"image id {image_id!r} is not a plain file name; fix the split file")
    return image_id


def inspect_image(
    root: Path, placeholders: bool, image_id: str, path: Path | None, source: str
) -> dict[str, Any]:
    """Decode one image completely and return its manifest row (`ok`, `missing`, `corrupt`).

    Raises:
        UserError: when its path is not UTF-8, which a table cannot store, or its file cannot be
            read.
    """
    row: dict[str, Any] = dict.fromkeys(MANIFEST.names)
    row |= {"image_id": image_id, "status": "missing"}
    if path is None:
        return row
    place = (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
    if (text := as_text(place)) != place:
        raise UserError(f"{text}: the path is not UTF-8; rename the folder")
    try:
        size = patiently(path.stat).st_size
        content = read_at_most(path, MAX_BYTES)
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; check that it exists and can be accessed"
        ) from error
    row |= {"path": place, "bytes": size, "source": source, "status": "corrupt"}
    if content is None:
        return row | {"reason": TOO_LARGE}
    info = asdict(inspect(content, placeholders))
    return row | {name: info[name] for name in row.keys() & info.keys()}


def rows(
    root: Path,
    images: Mapping[str, Path | None],
    sources: Mapping[str, str],
    workers: int,
    placeholders: bool = False,
) -> Iterator[pa.RecordBatch]:
    """Inspect every image of a store.

    Args:
        root: the store's folder.
        images: the file of each image by id, in the order of the rows; None if there is no file.
        sources: the source of each image by id; images without an entry were in the folder or
            complete it.
        placeholders: whether known placeholders count as missing.

    Returns:
        The rows, of schema `MANIFEST`, in blocks as they are done.

    Raises:
        UserError: as `inspect_image`.
    """

    def row(item: tuple[str, Path | None]) -> dict[str, Any]:
        image_id, path = item
        inside = path is None or path.is_relative_to(root)
        source = sources.get(image_id, FOUND if inside else COMPLETED)
        return inspect_image(root, placeholders, image_id, path, source)

    with closing(ahead(row, images.items(), workers)) as found:
        made = iter(tqdm(found, total=len(images), desc="verify images", unit="image"))
        while block := list(islice(made, BLOCK_ROWS)):
            yield pa.RecordBatch.from_pylist(block, schema=MANIFEST)


def inspect_again(
    manifest: pa.Table, root: Path, image_ids: Sequence[str], placeholders: bool = False
) -> pa.Table:
    """Inspect some images again, whose files have changed; all other rows remain.

    Args:
        manifest: of schema `MANIFEST`.
        root, placeholders: as in `rows`.

    Raises:
        UserError: when an image is not in the manifest, or has no file or no valid one now.
    """
    for image_id in image_ids:
        place = pc.index(manifest["image_id"], image_id).as_py()
        old = manifest.slice(place, 1).to_pylist()[0] if place >= 0 else {}
        path = root / (old.get("path") or "")
        if not path.is_file():
            raise UserError(f"image {image_id!r} has no file in the manifest; {WHOLE}")
        row = inspect_image(root, placeholders, image_id, path, old["source"])
        if row["status"] != "ok":
            raise UserError(
                f"{path} is {row['status']} ({row['reason']}); replace the file, or {WHOLE}"
            )
        new = pa.Table.from_pylist([row], manifest.schema)
        manifest = pa.concat_tables([manifest.slice(0, place), new, manifest.slice(place + 1)])
    return manifest


def remove_corrupt(manifest: pa.Table, root: Path) -> bool:
    """Remove files that exist but are not valid images; returns whether there were any."""
    corrupt = manifest.filter(pc.field("status") == "corrupt")
    for path in corrupt["path"].to_pylist():
        (root / path).unlink(missing_ok=True)  # Another process may have found it too.
    return len(corrupt) > 0
