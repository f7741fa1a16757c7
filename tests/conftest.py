"""What several test files share."""

from pathlib import Path

import pytest
import torch

from rau.encoders import small_clip
from rau.encoders.clip import Encoder, load
from tests.project import make


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP of one step, as the encoder stage writes it."""
    folder = tmp_path_factory.mktemp("encoder") / "small"
    small_clip.train(folder, seed=0, steps=1, batch_size=8, pairs=8, workers=1)
    return folder


@pytest.fixture(scope="session")
def encoder(encoder_folder: Path) -> Encoder:
    """The same, loaded."""
    return load(encoder_folder, torch.device("cpu"))


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny project after one `dvc repro`."""
    return make(tmp_path_factory.mktemp("project"))
