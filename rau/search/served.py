"""A search as an MLflow model: pictures and captions in, ids and scores out."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from mlflow.exceptions import INVALID_PARAMETER_VALUE, MlflowException
from mlflow.models import ModelSignature
from mlflow.pyfunc import PythonModel
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array

from rau import pictures
from rau.errors import UserError
from rau.search.model import NEUTRAL, Query
from rau.search.searcher import Searcher

INDEX = "index"
# What answering imports, pinned as it is installed where the model is exported.
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
        [ColSpec(Array(DataType.string), "ids"), ColSpec(Array(DataType.double), "scores")]
    ),
    params=ParamSchema(
        [
            ParamSpec("k", DataType.long, 10),
            ParamSpec("where", DataType.string, ""),
            ParamSpec("without", DataType.string, ""),
            ParamSpec("image_weight", DataType.double, NEUTRAL),
        ]
    ),
)


def requirements() -> list[str]:
    """Pinned requirements of the model."""
    return [f"{name}=={version(name)}" for name in PACKAGES]


class ServedSearch(PythonModel):  # type: ignore[misc]
    """`rau search` behind MLflow's interface.

    `image` is an id of the index, or a picture's file in base64; either of image and caption may be
    empty. A row's reference is no answer to it.
    """

    searcher: Searcher

    def load_context(self, context: Any) -> None:
        """Open the index that the model carries, or that it refers to."""
        folder = context.artifacts.get(INDEX) or context.model_config[INDEX]
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.searcher = Searcher.open(Path(folder), device)

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer every row.

        Raises:
            MlflowException: when a row or a parameter is not valid, with the row's number.
        """
        asked = {spec.name: spec.default for spec in SIGNATURE.params} | dict(params or {})
        answers = []
        for number, row in enumerate(model_input.to_dict("records")):
            try:
                answers.append(self._answer(row, asked))
            except UserError as error:
                raise MlflowException(f"row {number}: {error}", INVALID_PARAMETER_VALUE) from error
        return pd.DataFrame(answers)

    def _answer(self, row: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in row.items() if not pd.isna(value)}
        image, caption = (str(given.get(name, "")).strip() for name in ("image", "caption"))
        known = image in self.searcher.index.place
        reference = image if known else _decoded(image)
        query = Query(
            [self.searcher.reference(reference)] if image else [],
            caption,
            str(asked["without"]).strip(),
            float(asked["image_weight"]),
        )
        left_out = [image] if known else []
        found = self.searcher.search(query, int(asked["k"]), asked["where"] or None, left_out)
        sure = found.confidence
        return {
            "ids": [hit.id for hit in found.hits],
            "scores": [hit.score for hit in found.hits],
            "confidence": json.dumps(None if sure is None else asdict(sure)),
        }


def _decoded(image: str) -> bytes:
    if len(image) > 4 * (pictures.MAX_BYTES // 3 + 1):
        raise UserError(f"image: {pictures.TOO_LARGE}")
    try:
        return base64.b64decode(image, validate=True)
    except binascii.Error:
        raise UserError(
            f"image: {image[:40]!r} is neither an id of the index nor a file in base64"
        ) from None
