"""Fine-tunings of the small encoder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rau.finetuning import run
from tests.finetuning.synthetic import finetune, params, rising_values


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Digits do not depend on the machine."""
    torch.set_num_threads(1)


@pytest.fixture
def tuned(encoder_folder: Path, tmp_path: Path) -> Callable[..., run.Finetuned]:
    """Fine-tunes the small encoder in the test's folder, or one below."""

    def work(folder: str = ".", **changes: Any) -> run.Finetuned:
        return finetune(params(**changes), encoder_folder, tmp_path / folder)

    return work


@pytest.fixture
def rising(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every epoch is the best so far, so that the last weights are kept."""
    monkeypatch.setattr(run.Measure, "__call__", rising_values())
