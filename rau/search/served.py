"""A search as an MLflow model: takes images and captions, returns ids and scores."""

import base64
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array, Map

from rau import pictures
from rau.errors import UserError
from rau.params import SENTENCE_TRANSFORMERS
from rau.search.model import NEUTRAL
from rau.search.searcher import Searcher

# Names in the model's configuration.
INDEX, TRUST = "index", "trust_remote_code"
# Packages that are always imported, pinned to the versions installed at the export.
PACKAGES = (
    *("torch", "torchvision", "open_clip_torch", "safetensors", "numpy", "pandas", "pyarrow"),
    *("pillow", "pydantic", "filelock", "psutil", "tqdm", "typer", "pyyaml", "mlflow"),
)
SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(DataType.string, "image", required=False),
            ColSpec(DataType.string, "caption", required=False),
        ]
    ),
    outputs=Schema(
        [
            ColSpec(Array(DataType.string), "ids"),
            ColSpec(Array(DataType.double), "scores"),
            ColSpec(Map(DataType.double), "probability_at_k"),
            ColSpec(DataType.long, "prediction_set_size", required=False),
            ColSpec(DataType.string, "confidence_unavailable", required=False),
        ]
    ),
    params=ParamSchema(
        [
            ParamSpec("k", DataType.long, 10),
            ParamSpec("where", DataType.string, ""),
            ParamSpec("without", DataType.string, ""),
            ParamSpec("image_weight", DataType.double, NEUTRAL),
            ParamSpec("any_category", DataType.boolean, False),
        ]
    ),
)


def requirements(searcher: Searcher) -> list[str]:
    """Pinned requirements of a search."""
    own = {"lancedb"} if searcher.index.manifest.engine == "lancedb" else set()
    if searcher.model.encoder.name.startswith(SENTENCE_TRANSFORMERS):
        own |= {"sentence-transformers", "transformers"}
    return [f"{name}=={version(name)}" for name in (*PACKAGES, *sorted(own))]


class ServedSearch(PythonModel):
    """`rau search` with MLflow's interface.

    `image` is an id of the index, or an image file in base64; either image or caption may be empty.
    A row's reference is not one of its answers. `probability_at_k` is the probability that the
    target is among the first k, by k; it is empty if it was not validated for this kind of query
    and gallery, and `confidence_unavailable` gives the reason. `prediction_set_size` is the length
    of the shortest list that contains the target with 90 %; null if that is unknown or no short
    list does.
    """

    searcher: Searcher

    def load_context(self, context: Any) -> None:
        """Open the index that the model includes or refers to."""
        config = context.model_config or {}
        folder = context.artifacts.get(INDEX) or config[INDEX]
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.searcher = Searcher.open(Path(folder), device, bool(config.get(TRUST)))

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer every row.

        Raises:
            MlflowException: if a row or a parameter is invalid, with the row's number.
        """
        asked = {spec.name: spec.default for spec in SIGNATURE.params} | dict(params or {})
        answers = []
        for number, row in enumerate(model_input.to_dict("records")):
            try:
                given = {str(k): v for k, v in row.items() if not pd.isna(v)}
                answers.append(self._answer(given, asked))
            except UserError as error:
                raise MlflowException(f"row {number}: {error}", INVALID_PARAMETER_VALUE) from error
        # With dtype object null remains null; otherwise it would be NaN, which is not valid JSON.
        return pd.DataFrame(answers, dtype=object)

    def _answer(self, row: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
        image, caption = (str(row.get(name, "")).strip() for name in ("image", "caption"))
        reference = image if image in self.searcher.index.place else _decoded(image)
        found = self.searcher.ask(
            [reference] if image else [],
            caption,
            str(asked["without"]),
            float(asked["image_weight"]),
            int(asked["k"]),
            asked["where"] or None,
            any_category=bool(asked["any_category"]),
        )
        confidence = found.confidence
        return {
            "ids": [hit.id for hit in found.hits],
            "scores": [hit.score for hit in found.hits],
            "probability_at_k": {str(k): p for k, p in confidence.probability_at_k.items()}
            if confidence
            else {},
            "prediction_set_size": confidence.prediction_set_size if confidence else None,
            "confidence_unavailable": found.confidence_unavailable,
        }


def _decoded(image: str) -> bytes:
    if len(image) > 4 * (pictures.MAX_BYTES // 3 + 1):
        raise UserError(f"image: {pictures.TOO_LARGE}")
    try:
        return base64.b64decode(image, validate=True)
    except ValueError:  # binascii.Error, or letters that are not ASCII.
        raise UserError(
            f"image: {image[:40]!r} is neither an id of the index nor a base64-encoded file"
        ) from None
