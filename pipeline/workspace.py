"""Where things lie: outputs relative to the working folder, stores relative to the main checkout.

DVC runs queued experiments in temporary clones. What a stage puts out is written there; images,
feature parts and the tracking database are shared and live under `DVC_ROOT`.
"""

import os
from dataclasses import asdict
from pathlib import Path

from rau import params as parameters
from rau.datasets import garments
from rau.errors import UserError
from rau.files import digest, digest_sources

PARAMS = Path("params.yaml")
ENCODER = Path("data/encoder")
METRICS = Path("reports/metrics.json")
SUMMARY = Path("reports/summary.json")
PAGE = Path("reports/index.html")
FIGURES = Path("reports/figures")
TIMINGS = Path("data/.timings")


def load_params() -> parameters.Params:
    """The checked parameters of the working folder."""
    return parameters.load(PARAMS)


def main_checkout() -> Path:
    """Root of the main checkout, also from one of DVC's temporary workspaces."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


def manifest(dataset: str) -> Path:
    """Manifest of a data set."""
    return Path("data/manifests") / f"{dataset}.parquet"


def table(dataset: str, name: str) -> Path:
    """One of the tables `images`, `queries`, `galleries`."""
    return Path("data/tables") / dataset / f"{name}.parquet"


def features(dataset: str, kind: str) -> Path:
    """Features of `images` or `texts`."""
    return Path("data/features") / dataset / f"{kind}.parquet"


def model(dataset: str) -> Path:
    """Folder of the trained head."""
    return Path("data/models") / dataset


def text_map(dataset: str) -> Path:
    """The ridge map of the baselines, where image and text features differ in width."""
    return model(dataset) / "text_map.safetensors"


def rankings(dataset: str) -> Path:
    """Ranked lists of every query under every protocol."""
    return Path("data/rankings") / f"{dataset}.parquet"


def parts() -> Path:
    """Folder of encoded parts, shared by all workspaces."""
    return main_checkout() / "data/.parts"


def garments_spec(dataset: parameters.DatasetParams) -> garments.GarmentsSpec:
    """What to draw, in the generator's own type."""
    return garments.GarmentsSpec(**dataset.garments.model_dump())


def store(dataset: parameters.DatasetParams) -> Path:
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


def dataset_label(dataset: parameters.DatasetParams) -> dict[str, str]:
    """Name of the data set and what kind of copy it is."""
    if dataset.root is not None:
        return {"name": dataset.name, "copy": "custom", "root": dataset.root}
    return {"name": dataset.name, "copy": "built in"}
