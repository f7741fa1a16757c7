"""Paths: outputs relative to the working folder, stores relative to the main checkout.

DVC runs queued experiments in temporary clones. Stages write their outputs there; images, feature
parts and the tracking database are shared, under `DVC_ROOT`.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rau import params as parameters
from rau.datasets.store import store_folder
from rau.errors import UserError
from rau.retrieval import protocols

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PARAMS = Path("params.yaml")
ENCODER = Path("data/encoder")
METRICS = Path("reports/metrics.json")
SUMMARY = Path("reports/summary.json")
RELIABILITY = Path("reports/reliability.csv")
SUBMISSIONS = Path("data/submissions")
PAGE = Path("reports/index.html")
# One folder per setting; the page next to it summarises them.
FINDINGS = Path("docs/findings")
FIGURES = Path("reports/figures")
WEIGHTS = "head.safetensors"
HISTORY = "history.csv"
TEXT_MAP = "text_map.safetensors"
# Written instead of weights: the reason why there is no deterministic head.
NO_HEAD = "no_head.json"


def load_params() -> parameters.Params:
    """The checked parameters of the working folder.

    Raises:
        UserError: naming a parameter that is not permitted, alone or beside others: the first stage
            says what the last one could not do.
    """
    params = parameters.load(PARAMS)
    protocols.select(params.dataset.name, params.evaluate)  # A wrong headline is refused.
    given = params.features.source is not None
    without_composer = given or params.finetune.towers == "none"
    if params.train.head is None and params.train.start == "finetuned" and without_composer:
        reason = "features.source" if given else "finetune.towers=none"
        raise UserError(
            f"{PARAMS}: train.start=finetuned: with {reason} no composer is fine-tuned; use "
            "train.start=fresh"
        )
    if params.track.model and given:
        raise UserError(
            f"{PARAMS}: track.model=true: features.source names features, not an encoder that a "
            "search needs; set track.model to false"
        )
    return params


def params_or_defaults() -> parameters.Params:
    """Like `load_params`, with the library's defaults if the working folder is not a project."""
    return load_params() if PARAMS.is_file() else parameters.Params()


def main_checkout() -> Path:
    """Root of the main checkout, also from one of DVC's temporary workspaces."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


def store(dataset: parameters.DatasetParams) -> Path:
    """Folder of a data set's images and annotations, shared by all workspaces."""
    return store_folder(dataset, main_checkout())


def manifest(dataset: str) -> Path:
    """Manifest of a data set."""
    return Path("data/manifests") / f"{dataset}.parquet"


def missing(dataset: str) -> Path:
    """List of a data set's missing images, for the user; no stage reads it."""
    return Path("data/manifests") / f"{dataset}.missing.csv"


def table(dataset: str, name: str) -> Path:
    """One of the tables `images`, `queries`, `galleries`."""
    return Path("data/tables") / dataset / f"{name}.parquet"


def features(dataset: str, kind: str) -> Path:
    """Features of `images`, `texts` or `pairs`."""
    return Path("data/features") / dataset / f"{kind}.parquet"


def finetuned(dataset: str) -> Path:
    """Folder of the encoder fine-tuned on a data set, and of its composer."""
    return Path("data/finetuned") / dataset


def finetuning_history(dataset: str) -> "dict[str, NDArray[np.float64]] | None":
    """Columns of the fine-tuning history; None if the encoder was not fine-tuned."""
    from rau.training.history import read_history

    path = finetuned(dataset) / HISTORY
    return read_history(path, "finetune") if path.exists() else None


def encoder(dataset: str, root: Path = Path()) -> Path:
    """Folder of the encoder of a project's features: the fine-tuned one, if any."""
    from rau.finetuning import record

    folder = root / finetuned(dataset)
    towers = record.Record.read(folder).towers
    return root / ENCODER if towers == "none" else folder / record.ENCODER


def model(dataset: str) -> Path:
    """Folder of the trained head."""
    return Path("data/models") / dataset


def deterministic(dataset: str) -> Path:
    """Folder of the deterministic head: the same head without uncertainty."""
    return Path("data/models") / f"{dataset}-deterministic"


def studies(dataset: str) -> Path:
    """Tables of the studies."""
    return Path("data/studies") / dataset


def finished_studies(dataset: str) -> list[str]:
    """Studies whose tables exist, in the order of the page."""
    from rau.studies.registry import STUDIES
    from rau.studies.tables import DOCUMENT

    return [study for study in STUDIES if (studies(dataset) / study / DOCUMENT).exists()]


def study_page(dataset: str) -> Path:
    """The studies' report; its figures are in the same folder."""
    return Path("reports/studies") / dataset / "index.html"


def rankings(dataset: str) -> Path:
    """Ranked lists of every query under every protocol."""
    return Path("data/rankings") / f"{dataset}.parquet"


def parts() -> Path:
    """Folder of encoded parts, shared by all workspaces."""
    return main_checkout() / "data/.parts"


def timing(stage: str, outputs: str) -> Path:
    """Time and memory of the stage run with these outputs, shared by all workspaces."""
    return main_checkout() / "data/.timings" / f"{stage}-{outputs[:16]}.json"


def dataset_label(dataset: parameters.DatasetParams) -> dict[str, Any]:
    """Name of the data set, the kind of copy, and the folder of a user-provided copy."""
    label = {"name": dataset.name, "copy": "built in" if dataset.root is None else "custom"}
    return label if dataset.root is None else label | {"root": dataset.root}
