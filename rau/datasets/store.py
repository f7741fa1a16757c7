"""The folder of a data set's images and annotations, outside what DVC removes or copies."""

from pathlib import Path

from rau.errors import UserError
from rau.files import digest, user_path
from rau.params import DatasetParams

# Increment when the rendering or captions of the built-in data set change; it names the folder.
GARMENTS_RECIPE = 1


def store_folder(dataset: DatasetParams, checkout: Path) -> Path:
    """Folder that holds images and annotations.

    Args:
        checkout: root of the main checkout, which relative paths are resolved against.

    Raises:
        UserError: when `dataset.root` is not a folder.
    """
    if dataset.root is not None:
        root = user_path(dataset.root, checkout, "dataset.root")
        if not root.is_dir():
            raise UserError(f"dataset.root: folder {root} does not exist; check the path")
        return root
    if dataset.name != "garments":
        return checkout / "data/raw" / dataset.name
    made_by = digest([GARMENTS_RECIPE, dataset.garments.model_dump()])
    return checkout / "data/raw" / f"garments-{made_by}"
