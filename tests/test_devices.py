"""The precision of matrix products, inside a block and in training."""

from typing import Any

import pytest
import torch

from rau import devices
from rau.params import MatmulPrecision
from rau.training.fit import fit as fit_prepared
from rau.training.fit import prepare
from rau.training.sampler import Batch
from rau.training.trainer import Trainer
from tests.training.test_trainer import params, synthetic


def test_precision_of_products_ends_with_its_block() -> None:
    before = torch.get_float32_matmul_precision()
    for name, known in (("float32", "highest"), ("tf32", "high"), ("bfloat16", "medium")):
        with devices.matmul_precision(name):  # type: ignore[arg-type]
            assert torch.get_float32_matmul_precision() == known
        assert torch.get_float32_matmul_precision() == before
    with pytest.raises(KeyError), devices.matmul_precision("bfloat16"):
        raise KeyError
    assert torch.get_float32_matmul_precision() == before


def test_steps_are_as_coarse_as_asked_and_the_holdout_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stepped: list[str] = []
    step = Trainer._step

    def noted(self: Trainer, number: int, batch: Batch) -> torch.Tensor:
        stepped.append(torch.get_float32_matmul_precision())
        return step(self, number, batch)

    monkeypatch.setattr(Trainer, "_step", noted)
    features, queries = synthetic()

    def losses(precision: MatmulPrecision) -> list[Any]:
        wanted = params(precision=precision)
        prepared = prepare(wanted.train, features, queries)
        found = fit_prepared(wanted, features, prepared, None, quiet=True)
        assert torch.get_float32_matmul_precision() == "highest"
        return [row["loss"] for row in found.training.history[1:]]

    fine = losses("float32")
    assert set(stepped) == {"highest"}
    stepped.clear()
    coarse = losses("bfloat16")
    assert set(stepped) == {"medium"}
    assert coarse == pytest.approx(fine, rel=0.01)
