"""What the tests of the service share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from rau.service.app import create
from rau.service.feedback import Feedback
from rau.service.live import Live
from tests.search.synthetic import CPU
from tests.service.synthetic import make_synthetic

TOKEN = "a-token-of-some-length"


@pytest.fixture(name="index", scope="session")
def _index(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> Path:
    """An index of 40 pictures; no test changes it."""
    return make_synthetic(tmp_path_factory.mktemp("service"), encoder_folder)


@pytest.fixture(name="live", scope="session")
def _live(index: Path) -> Live:
    """The same, opened."""
    return Live(index, CPU)


@pytest.fixture(name="answers")
def _answers(tmp_path: Path) -> Path:
    """Where answers go."""
    return tmp_path / "feedback"


@pytest.fixture(name="client")
def _client(live: Live, answers: Path) -> Iterator[TestClient]:
    """A client of a service that keeps answers."""
    app = create(live, ["127.0.0.1"], feedback=Feedback(answers))
    with TestClient(app, "http://127.0.0.1:8000") as client:
        yield client
