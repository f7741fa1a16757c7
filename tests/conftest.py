"""What several test files share."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from tests.project import make

if TYPE_CHECKING:
    from rau.encoders.clip import Encoder

# Tests run side by side, a worker a core: threads of each would stand in each other's way. Set
# before torch is imported, also for what the tests start.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP of one step, as the encoder stage writes it."""
    from rau.encoders import small_clip

    folder = tmp_path_factory.mktemp("encoder") / "small"
    small_clip.train(folder, seed=0, steps=1, batch_size=8, pairs=8, workers=1)
    return folder


@pytest.fixture(scope="session")
def encoder(encoder_folder: Path) -> "Encoder":
    """The same, loaded."""
    import torch

    from rau.encoders.clip import load

    return load(encoder_folder, torch.device("cpu"))


@pytest.fixture(scope="session")
def built_project(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A tiny project after one `dvc repro`; all workers share it, no test changes it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "project"
    made = folder.with_suffix(".made")
    with FileLock(folder.with_suffix(".lock")):
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


@pytest.fixture
def project(built_project: Path, tmp_path: Path) -> Path:
    """A copy of the built project that a test may change."""
    return shutil.copytree(built_project, tmp_path / "project", symlinks=True)
