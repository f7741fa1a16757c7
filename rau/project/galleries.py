"""The val gallery of the project's data set, for searches."""

from pathlib import Path
from typing import TYPE_CHECKING

from rau import cpu
from rau.project import workspace

if TYPE_CHECKING:
    from rau.search.catalogue import Catalogue
    from rau.search.model import Model


def catalogue_of() -> "Catalogue":
    """Get the images of the val gallery with their known attributes.

    Raises:
        UserError: when the tables are missing, or a product table is malformed.
    """
    from rau.evaluation.calibration import of_dataset
    from rau.schemas import read_galleries, read_images
    from rau.search import catalogue

    params = workspace.load_params()
    name = params.dataset.name
    rows = read_galleries(workspace.table(name, "galleries"))
    wanted = {row["image_id"] for row in rows if row["gallery"] == "original"}
    root = workspace.store(params.dataset)
    source = of_dataset(name, workspace.table(name, "queries"))
    if name == "catalogue":
        return catalogue.only(catalogue.of_products(root), source, wanted)
    images = read_images(workspace.table(name, "images"))
    return catalogue.of_images(source, root, [row for row in images if row["image_id"] in wanted])


def index(folder: Path, model: "Model") -> str:
    """Update the index in a folder to the current gallery, encoded by a model.

    Returns:
        The changes, in words.

    Raises:
        UserError: as in `rau.search.build.build`.
    """
    from rau.search import build

    params = workspace.load_params()
    workers = params.features.workers or cpu.limit_threads(params.train.threads)
    batch = params.features.batch_size
    made, changes = build.build(folder, catalogue_of(), model, "exact", batch, workers)
    return f"{len(made):,} pictures; {changes}"
