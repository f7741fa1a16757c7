"""Filling a store: drawn where the data set is built in, fetched where it is published."""

from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import HfApi

from rau.datasets import garments
from rau.datasets.registry import CARDS
from rau.download.acquire import acquire
from rau.download.http_client import Client
from rau.files import user_path
from rau.params import DatasetParams


def fill(dataset: DatasetParams, root: Path, checkout: Path, workers: int) -> Mapping[str, str]:
    """Draw or fetch the missing images of a store; `dataset.root` is left untouched.

    Args:
        root: the store's folder.
        checkout: root of the main checkout, which relative paths start from.
        workers: processes that draw.

    Returns:
        Where the images came from, by id.

    Raises:
        UserError: when annotations cannot be fetched, or the images' terms are not agreed to.
    """
    if dataset.root is not None:
        return {}
    if dataset.name == "garments":
        spec = garments.GarmentsSpec(**dataset.garments.model_dump())
        garments.generate(root, spec, workers)
        return {}
    images = None
    if dataset.images is not None:
        images = user_path(dataset.images, checkout, "dataset.images")
    with Client(dataset.connections) as client:
        card = CARDS[dataset.name]
        return acquire(card, root, client, HfApi(), images, dataset.accept_terms)
