"""An index with its model in MLflow: logged to a run, registered, with an alias."""

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
) -> tracking.LoggedModel:
    """Log and register the search over an index, as code and files: nothing is pickled.

    Args:
        uri: of the MLflow store; `artifacts` is its folder where the store is a database file.
        run: that gets the model; None for a new one.
        by_reference: the model names the index's folder in place of a copy.

    Raises:
        UserError: when the index is missing or damaged.
        TrackingUnavailable: when the store cannot be used, or has no such run.
    """
    from rau.search import served

    searcher = Searcher.open(index, torch.device("cpu"))
    first = next(iter(searcher.index.place))
    folder = str(index.resolve())
    model = {
        "python_model": str(Path(__file__).with_name("served_model.py")),
        "code_paths": [str(LIBRARY)],
        "artifacts": None if by_reference else {served.INDEX: folder},
        "model_config": {served.INDEX: folder} if by_reference else None,
        "signature": served.SIGNATURE,
        "input_example": pd.DataFrame([{"image": first, "caption": "in another colour"}]),
        "pip_requirements": served.requirements(searcher),
    }
    source = f"search over {searcher.index.manifest.source}"
    return tracking.log_model(uri, artifacts, run, source, (name, alias), model, index)
