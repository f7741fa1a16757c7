"""Export of an index with its model to MLflow: logged to a run, registered, with an alias."""

from pathlib import Path

import pandas as pd
import torch

from rau import tracking
from rau.search.searcher import Searcher

LIBRARY = Path(__file__).parents[1]


def log(
    index: Path,
    uri: str,
    artifacts: Path,
    run: str | None,
    name: str,
    alias: str,
    by_reference: bool,
    trust_remote_code: bool = False,
) -> tracking.LoggedModel:
    """Log and register the search over an index as code and files, without pickling.

    Args:
        uri: URI of the MLflow store; `artifacts` is its folder if the store is a database file.
        run: the run that the model is logged to; None for a new one.
        by_reference: refer to the index's folder instead of copying it.
        trust_remote_code: as `encoder.trust_remote_code`, here and wherever the model is loaded.

    Raises:
        UserError: if the index is missing or damaged, or its encoder's code is not trusted.
        TrackingUnavailable: if the store cannot be used, or has no such run.
    """
    from rau.search import served

    searcher = Searcher.open(index, torch.device("cpu"), trust_remote_code)
    first = next(iter(searcher.index.place))
    place = {served.INDEX: str(index.resolve())}
    trust = {served.TRUST: True} if trust_remote_code else {}
    model = {
        "python_model": str(Path(__file__).with_name("served_model.py")),
        "code_paths": [str(LIBRARY)],
        "artifacts": None if by_reference else place,
        "model_config": (place if by_reference else {}) | trust,
        "signature": served.SIGNATURE,
        "input_example": pd.DataFrame([{"image": first, "caption": "in another colour"}]),
        "pip_requirements": served.requirements(searcher),
    }
    source = f"search over {searcher.index.manifest.source}"
    return tracking.log_model(uri, artifacts, run, source, (name, alias), model, index)
