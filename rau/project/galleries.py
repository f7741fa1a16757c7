"""The val gallery of the project's data set, for searches."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rau import cpu
from rau.project import workspace

if TYPE_CHECKING:
    from rau.params import Params
    from rau.search.catalogue import Catalogue
    from rau.search.model import Model

# Alias of the model that was registered last.
NEWEST = "newest"


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
    return f"{len(made):,} images; {changes}"


def log_search(params: "Params", uri: str, artifacts: Path, run: str) -> str:
    """Log a search over the val gallery as a model of an MLflow run, registered as
    `rau-<data set>`.

    Args:
        uri: URI of the MLflow store; `artifacts` is its folder if the store is a database file.

    Returns:
        The model's name and what it searches, in words.

    Raises:
        UserError: as in `index`, or when the project's model is missing or damaged.
        TrackingUnavailable: if the store cannot be used, or has no such run.
    """
    from rau import devices
    from rau.project import named_models
    from rau.search import exported

    device, trust = devices.choose(params.train.device), params.encoder.trust_remote_code
    with TemporaryDirectory() as temporary, named_models.opened(".", device, trust) as model:
        folder = Path(temporary) / "index"
        gallery = index(folder, model)
        name = f"rau-{params.dataset.name}"
        logged = exported.log(folder, uri, artifacts, run, name, NEWEST, False, trust)
    return f"models:/{name}@{NEWEST}, version {logged.version}, val gallery {gallery}"
