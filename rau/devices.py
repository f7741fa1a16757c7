"""The device that tensors live on, the threads of a CPU and the precision of matrix products."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rau.errors import UserError
from rau.memory import peak_memory_bytes
from rau.params import MatmulPrecision


def choose(name: str, option: str = "train.device") -> torch.device:
    """The named device; `auto` is the GPU if there is one, otherwise the CPU.

    Args:
        option: name of the option or parameter, for the error message.

    Raises:
        UserError: when this machine does not have the device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"{option}={name} is not available on this machine; use auto or cpu"
        ) from error
    return device


def peak_memory(device: torch.device) -> int:
    """Peak memory of this process in bytes, on the GPU or in the main memory of a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_memory_bytes()


@contextmanager
def matmul_precision(precision: MatmulPrecision) -> Iterator[None]:
    """Inside the block, round the factors of float32 matrix products to this precision.

    Sums stay in float32. A device that does not support the precision uses the next finer one that
    it supports: on a CPU `tf32` is rarely available, on a GPU `bfloat16` means `tf32`.
    """
    before = torch.get_float32_matmul_precision()
    kinds = {"float32": "highest", "tf32": "high", "bfloat16": "medium"}
    torch.set_float32_matmul_precision(kinds[precision])
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set the number of torch's threads inside the block, also for threads started there."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
