"""What the CPU's work takes: products' precision inside a block, memory that is kept."""

import ctypes
import subprocess
import sys
from typing import Any

import pytest
import torch

from rau import devices
from rau.params import MatmulPrecision
from rau.training.fit import fit as fit_prepared
from rau.training.fit import prepare
from rau.training.trainer import Trainer
from tests.training.test_trainer import params, world

KEPT = """
import ctypes
import sys
from rau import devices

class Info(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.mallinfo2.restype = Info
if sys.argv[1] == "keep":
    devices.keep_memory()
block = libc.malloc(30 * 2**20)
libc.free(block)
print(libc.mallinfo2().fordblks)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33")
def test_memory_that_was_freed_is_kept() -> None:
    def kept(how: str) -> int:
        command = [sys.executable, "-c", KEPT, how]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return int(done.stdout)

    assert kept("keep") >= 30 * 2**20 > kept("as it is")


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

    def noted(self: Trainer, *inputs: Any) -> torch.Tensor:
        stepped.append(torch.get_float32_matmul_precision())
        return step(self, *inputs)

    monkeypatch.setattr(Trainer, "_step", noted)
    features, queries = world()

    def losses(precision: MatmulPrecision) -> list[Any]:
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
