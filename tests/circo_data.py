"""A small CIRCO in its real form, drawn."""

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from rau.datasets.registry import CIRCO, COCO, IMAGE_LIST, Archive, DatasetCard
from tests.synthetic import digests, picture

LIST = f"{COCO}/{IMAGE_LIST}"
ASPECTS = ("addition", "negation", "viewpoint")


def number(row: int) -> int:
    """Of the image in a row of COCO's list; they do not ascend."""
    return 7 * (row ^ 1) + 3


def listing(images: int) -> dict[str, Any]:
    """COCO's list of images."""
    rows = [{"id": number(n), "file_name": f"{number(n):012}.jpg"} for n in range(images)]
    return {"info": {"year": 2017}, "images": rows, "categories": []}


def entry(n: int, images: int, split: str = "val") -> dict[str, Any]:
    """The annotation of a query; one in three has several answers."""
    made: dict[str, Any] = {
        "reference_img_id": number(n % images),
        "relative_caption": f" is turned {n % 5} times",
        "shared_concept": f"a shape of kind {n % 3}",
        "id": n,
    }
    if split == "val":
        answers = [number((n + k) % images) for k in range(1, 2 + 2 * (n % 3 == 0))]
        made |= {"target_img_id": answers[0], "gt_img_ids": answers}
        made["semantic_aspects"] = [ASPECTS[n % 3], *(["addition"] if n % 3 == 2 else [])]
    return made


def write_annotations(root: Path, images: int = 70, val: int = 12, test: int = 6) -> None:
    """Annotations of both splits, and COCO's list."""
    for place in ("annotations", Path(LIST).parent):
        (root / place).mkdir(parents=True, exist_ok=True)
    for split, count in (("val", val), ("test", test)):
        rows = [entry(n, images, split) for n in range(count)]
        (root / f"annotations/{split}.json").write_text(json.dumps(rows))
    (root / LIST).write_text(json.dumps(listing(images)))


def write_images(root: Path, images: int = 70) -> None:
    """COCO's images."""
    folder = root / COCO / "unlabeled2017"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names(images):
        (folder / f"{name}.jpg").write_bytes(picture(name))


def names(images: int) -> list[str]:
    """Ids of all images, in the order of the list."""
    return [f"{number(n):012}" for n in range(images)]


def packed(files: dict[str, bytes]) -> bytes:
    """A zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return buffer.getvalue()


def card(url: str, folder: Path, images: int) -> DatasetCard:
    """CIRCO's card, with the annotations of `folder` and the hosts at `url`."""
    files = [folder / path for path in CIRCO.annotations.digests]
    info, pictures = CIRCO.archives
    return replace(
        CIRCO,
        annotations=replace(
            CIRCO.annotations, digests=digests(folder, files), host=f"{url}/github"
        ),
        images=images,
        archives=(Archive(f"{url}/info.zip", info.files), replace(pictures, url=f"{url}/all.zip")),
    )
