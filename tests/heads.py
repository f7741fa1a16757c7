"""Small heads for tests."""

from typing import Any

from rau.models.config import HeadConfig
from rau.retrieval.protocols import weight_key
from rau.training.model_selection import ALL_CHOICES

SMALL: dict[str, Any] = {
    "name": "rau",
    "d_image": 16,
    "d_text": 16,
    "shared_space": True,
    "dim": 8,
    "hidden": 8,
    "dropout": 0.1,
    "input_dropout": 0.0,
    "n": 1,
    "isu": True,
    "samples": 1,
    "shared": False,
    "sigma_init": 0.1,
    "text_weight": 0.5,
    "temperature": 0.05,
    "learn_temperature": False,
}

# What `train` stores with a head.
RECORD: dict[str, Any] = {
    "features": {"key": "k"},
    "select": "map",
    "best_epoch": 1,
    "best_value": 50.0,
    "text_weights": {weight_key(*choice): 0.5 for choice in ALL_CHOICES},
    "alignment": {"pairs": None},
    "threads": 1,
    "queries": {"train": 1},
    "joins_captions": True,
}


def small_config(**changes: Any) -> HeadConfig:
    """The configuration of a small RAU head, with some values replaced."""
    return HeadConfig(**SMALL | changes)
