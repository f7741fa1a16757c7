"""What several test files share."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.places import ROOT
from tests.project import built

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
def project_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Where the tiny project is, the same for all workers."""
    base = tmp_path_factory.getbasetemp()
    return (base if worker_id == "master" else base.parent) / "project"


# Files that take longest begin first, for none should run alone at the end; those of the built
# project after the others, which run while it is built.
LONGEST = (
    "finetuning/test_finetuning.py",
    "training/test_trainer.py",
    "test_bench.py",
    "finetuning/test_processes.py",
    "finetuning/test_options.py",
    "download/test_acquire.py",
    "features/test_on_ray.py",
    "studies/test_ray_workers.py",
    "pipeline/test_study_pipeline.py",
    "pipeline/test_ray_pipeline.py",
    "pipeline/test_pipeline.py",
    "fuzz/test_fuzz.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers take whole files, in this order: `make test` says how."""
    place = {ROOT / "tests" / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="session", autouse=True)
def build_early(
    request: pytest.FixtureRequest, project_folder: Path, worker_id: str
) -> Iterator[None]:
    """Build the project while tests run that do not need it: no worker waits for another's."""
    used = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    if worker_id != "gw0" or "built_project" not in used:
        yield
        return
    code = "import sys; from pathlib import Path; from tests.project import built\n"
    command = [sys.executable, "-c", f"{code}built(Path(sys.argv[1]))", str(project_folder)]
    # Its output is dropped: a worker that finds the project missing makes it again, and says why.
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)


@pytest.fixture(scope="session")
def built_project(project_folder: Path) -> Path:
    """A tiny project after one `dvc repro`; all workers share it, no test changes it."""
    return built(project_folder)


@pytest.fixture
def project(built_project: Path, tmp_path: Path) -> Path:
    """A copy of the built project that a test may change."""
    return shutil.copytree(built_project, tmp_path / "project", symlinks=True)
