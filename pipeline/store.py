"""The store: images and annotations, kept outside what DVC removes, copies or clones."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from pipeline.workspace import main_checkout
from rau.datasets import garments
from rau.errors import UserError
from rau.files import digest, digest_sources
from rau.params import DatasetParams


def garments_spec(dataset: DatasetParams) -> garments.GarmentsSpec:
    """What to draw, in the generator's own type."""
    return garments.GarmentsSpec(**dataset.garments.model_dump())


def folder(dataset: DatasetParams) -> Path:
    """Folder that holds images and annotations.

    Raises:
        UserError: when the user's folder does not exist.
    """
    if dataset.root is not None:
        root = _own(dataset.root)
        if not root.is_dir():
            raise UserError(f"dataset.root: no folder {root}; check the path")
        return root
    if dataset.name != "garments":
        return main_checkout() / "data/raw" / dataset.name
    made_by = digest(
        [asdict(garments_spec(dataset)), digest_sources(Path(garments.__file__).parent)]
    )
    return main_checkout() / "data/raw" / f"garments-{made_by}"


def fill(dataset: DatasetParams, root: Path, workers: int) -> Mapping[str, str]:
    """Draw or fetch what the store lacks; a folder of the user's own stays as it is.

    Returns:
        Where the images came from, by id.

    Raises:
        UserError: when annotations cannot be had, or the images' terms are not agreed to.
    """
    if dataset.root is not None:
        return {}
    if dataset.name == "garments":
        garments.generate(root, garments_spec(dataset), workers)
        return {}
    from rau.datasets.readers import reader
    from rau.datasets.records import RECORDS
    from rau.sources.acquire import Choices, acquire
    from rau.sources.client import Client

    choices = Choices(
        None if dataset.images is None else _own(dataset.images),
        dataset.accept_terms,
        dataset.connections,
    )
    with Client(dataset.connections) as client:
        return acquire(RECORDS[dataset.name], reader(dataset.name), root, choices, client)


def _own(path: str) -> Path:
    return main_checkout() / Path(path).expanduser()
