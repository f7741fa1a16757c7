"""Filling a store: drawn where the data set is built in, fetched where it is published."""

from collections import ChainMap
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
    """A store after all that could be done.

    Attributes:
        images: the file of each image by id, None where there is none.
        sources: where fetched images came from, by id.
    """

    annotations: Annotations
    images: Mapping[str, Path | None]
    sources: Mapping[str, str]


def fill(dataset: DatasetParams, root: Path, checkout: Path, workers: int) -> Filled:
    """Draw or fetch the missing images of a store, and find them.

    `dataset.root` is left untouched; `dataset.images` completes it.

    Args:
        root: the store's folder.
        checkout: root of the main checkout, which relative paths start from.
        workers: processes that draw.

    Raises:
        UserError: when annotations cannot be fetched or read, the images' terms are not agreed to,
            or `dataset.images` is no folder, or one that nothing reads.
    """
    own = None
    if dataset.images is not None:
        own = user_path(dataset.images, checkout, "dataset.images")
    sources: Mapping[str, str] = {}
    if dataset.root is None and dataset.name == "garments":
        if own is not None:
            raise UserError("dataset.images: the garments are drawn; set dataset.root or null")
        garments.generate(root, dataset.garments, workers)
    elif dataset.root is None:
        with Client(dataset.connections) as client:
            card = CARDS[dataset.name]
            sources = acquire(card, root, client, HfApi(), own, dataset.accept_terms)
    annotations = reader(dataset.name, dataset.catalogue).read_annotations(root)
    images: Mapping[str, Path | None] = Located(root, annotations.image_ids, annotations.places)
    if dataset.root is not None and own is not None:
        missing = {image_id for image_id, path in images.items() if path is None}
        images = ChainMap(find_images(own, images, missing), images)
    return Filled(annotations, images, sources)
