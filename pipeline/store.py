"""The store: images and annotations, kept outside what DVC removes, copies or clones."""

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
        UserError: when the user's folder does not exist, or none is named where one is needed.
    """
    if dataset.root is not None:
        root = main_checkout() / Path(dataset.root).expanduser()
        if not root.is_dir():
            raise UserError(f"dataset.root: no folder {root}; check the path")
        return root
    if dataset.name != "garments":
        raise UserError(
            f"dataset.name={dataset.name} needs dataset.root=<folder in {dataset.name}'s layout>"
        )
    made_by = digest(
        [asdict(garments_spec(dataset)), digest_sources(Path(garments.__file__).parent)]
    )
    return main_checkout() / "data/raw" / f"garments-{made_by}"
