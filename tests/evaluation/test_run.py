"""What is saved with a head is checked where it is read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rau.errors import UserError
from rau.evaluation.run import TrainedHead, read_text_map
from rau.features.table import Features
from rau.models import checkpoint
from rau.models.head import ComposedHead
from rau.retrieval.feature_set import FeatureSet
from tests.heads import RECORD, small_config


def features(d_image: int, d_text: int) -> FeatureSet:
    pair = [Features(["a"], np.ones((1, d), np.float32), {"key": "k"}) for d in (d_image, d_text)]
    return FeatureSet.on(torch.device("cpu"), *pair)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"text_weights": {}}, "text_weights has no kept-both"),
        ({"text_weights": {"kept-both": 7.0}}, "text_weights.kept-both"),
        ({"best_epoch": "1"}, "best_epoch"),
        ({"features": {"key": 1}}, "features.key"),
        ({"queries": None}, "queries"),
    ],
)
def test_record_of_a_head(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    config = small_config()
    own = features(config.d_image, config.d_text)
    checkpoint.save(tmp_path, ComposedHead(config), RECORD)
    assert TrainedHead.load(tmp_path, own).record.best_value == 50
    checkpoint.save(tmp_path, ComposedHead(config), RECORD | changed)
    with pytest.raises(UserError, match=f"{said}.*run `python -m pipeline.train`"):
        TrainedHead.load(tmp_path, own)


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"text_map": torch.zeros(3, 4)},
        {"text_map": torch.full((4, 4), torch.nan)},
    ],
)
def test_ridge_map(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    own = features(4, 3)
    checkpoint.save_state(tmp_path / "map", {"text_map": torch.zeros(4, 4)}, {})
    assert read_text_map(tmp_path / "map", own).shape == (4, 4)
    checkpoint.save_state(tmp_path / "map", tensors, {})
    with pytest.raises(UserError, match=r"map is not a ridge map of 4 by 4; run"):
        read_text_map(tmp_path / "map", own)
