"""Filling a store: built-in data are rendered, published data are fetched."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi

from rau.datasets import garments
from rau.datasets.annotations import Annotations
from rau.datasets.locate import Located
from rau.datasets.readers import reader
from rau.datasets.registry import CARDS
from rau.download.acquire import acquire
from rau.download.http_client import Client
from rau.download.local_folder import find_images
from rau.errors import UserError
from rau.files import user_path
from rau.params import DatasetParams


@dataclass(frozen=True)
class Filled:
    """The contents of a store.

    Attributes:
        images: the file of each image by id, None if it is missing.
        sources: where fetched images came from, by id.
    """

    annotations: Annotations
    images: Mapping[str, Path | None]
    sources: Mapping[str, str]


def fill(dataset: DatasetParams, root: Path, checkout: Path, workers: int) -> Filled:
    """Render or fetch the missing images of a store, and find all images.

    `dataset.root` is not changed; `dataset.images` completes it.

    Args:
        root: the store's folder.
        checkout: root of the main checkout, which relative paths refer to.
        workers: number of processes that render.

    Raises:
        UserError: when annotations cannot be fetched or read, the images' terms are not agreed to,
            or `dataset.images` is not a folder or does not apply.
    """
    own = None
    if dataset.images is not None:
        own = user_path(dataset.images, checkout, "dataset.images")
    sources: Mapping[str, str] = {}
    if dataset.root is None and dataset.name == "garments":
        if own is not None:
            raise UserError(
                "dataset.images does not apply to garments, which are rendered; set it to null, or "
                "set dataset.root"
            )
        garments.generate(root, dataset.garments, workers)
    elif dataset.root is None:
        card = CARDS.get(dataset.name)
        if card is None:
            raise UserError(
                f"dataset.name={dataset.name} has no known source to download; set dataset.root to "
                "the folder of its files"
            )
        with Client(dataset.connections) as client:
            sources = acquire(card, root, client, HfApi(), own, dataset.accept_terms)
    annotations = reader(dataset.name, dataset.catalogue).read_annotations(root)
    images = Located(root, annotations.image_ids, annotations.places)
    if dataset.root is not None and own is not None:
        missing = {image_id for image_id, path in images.items() if path is None}
        images.others = find_images(own, images, missing)
    return Filled(annotations, images, sources)
