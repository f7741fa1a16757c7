"""What the CPU's work takes: products' precision inside a block, memory that is kept."""

import platform
import subprocess
import sys
from typing import Any

import pytest
import torch

from rau import devices
from rau.fitting import fit as fit_prepared
from rau.fitting import prepare
from rau.params import Products
from rau.training import Trainer
from tests.test_training import params, world

FAULTS = """
import resource
import torch
from rau import devices
if {keep}:
    devices.keep_memory()
torch.set_num_threads(1)
left = torch.ones(600, 1024)
for repeat in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [left + 1 for _ in range(20)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_that_is_kept_is_not_taken_page_by_page_again() -> None:
    def faults(keep: bool) -> int:
        command = [sys.executable, "-c", FAULTS.format(keep=keep)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return int(done.stdout)

    assert faults(keep=True) < 0.1 * faults(keep=False)


def test_precision_of_products_ends_with_its_block() -> None:
    before = torch.get_float32_matmul_precision()
    for name, known in (("float32", "highest"), ("tf32", "high"), ("bfloat16", "medium")):
        with devices.products(name):  # type: ignore[arg-type]
            assert torch.get_float32_matmul_precision() == known
        assert torch.get_float32_matmul_precision() == before
    with pytest.raises(KeyError), devices.products("bfloat16"):
        raise KeyError
    assert torch.get_float32_matmul_precision() == before


def test_steps_are_as_coarse_as_asked_and_the_holdout_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stepped: list[str] = []
    step = Trainer._step

    def noted(self: Trainer, *inputs: Any) -> torch.Tensor:
        stepped.append(torch.get_float32_matmul_precision())
        return step(self, *inputs)

    monkeypatch.setattr(Trainer, "_step", noted)
    features, queries = world()

    def losses(precision: Products) -> list[Any]:
        wanted = params(precision=precision)
        prepared = prepare(wanted.train, features, queries)
        found = fit_prepared(wanted, features, prepared, None, quiet=True)
        assert torch.get_float32_matmul_precision() == "highest"
        return [row["loss"] for row in found.progress.history]

    fine = losses("float32")
    assert set(stepped) == {"highest"}
    stepped.clear()
    coarse = losses("bfloat16")
    assert set(stepped) == {"medium"}
    assert coarse == pytest.approx(fine, rel=0.01)
