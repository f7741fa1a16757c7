"""The record saved with a trained head, checked when the head is read."""

import itertools
from pathlib import Path
from typing import Annotated, Self, get_args

import torch
from pydantic import ConfigDict, Field, PositiveInt, ValidationError, model_validator

from rau.datasets.captions import Join
from rau.errors import UserError
from rau.evaluation.run_metrics import TrainingSummary
from rau.models import checkpoint
from rau.models.head import ComposedHead
from rau.params import first_error
from rau.retrieval import protocols
from rau.retrieval.protocols import weight_key


class HeadRecord(TrainingSummary):
    """The record saved with a trained head.

    Attributes:
        features: metadata of the features that it was trained on.
        joins_captions: whether queries have several captions, so that a single one is written as
            one of them (`rau.datasets.captions.single_text`).
    """

    model_config = ConfigDict(extra="ignore")

    features: dict[str, str]
    best_value: Annotated[float, Field(allow_inf_nan=False)]
    threads: PositiveInt
    joins_captions: bool

    @model_validator(mode="after")
    def _weights(self) -> Self:
        if self.queries.get("train") == 0:
            return self
        choices = itertools.product(get_args(protocols.Reference), get_args(Join))
        if absent := {weight_key(*choice) for choice in choices} - {*self.text_weights}:
            raise ValueError(f"text_weights has no {min(absent)}")
        return self


def read(folder: Path, device: str | torch.device, remedy: str) -> tuple[ComposedHead, HeadRecord]:
    """Read a trained head, in evaluation mode, and its record.

    Raises:
        UserError: when the head is missing or damaged, or its record is malformed; the message
            ends with the `remedy`.
    """
    head, extra = checkpoint.load(folder, device)
    try:
        return head, HeadRecord.model_validate(extra)
    except ValidationError as error:
        key, message = first_error(error)
        raise UserError(f"{folder}: the head's {key}: {message}; {remedy}") from error
