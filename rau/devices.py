"""The device that tensors live on, the threads of a CPU and the precision of matrix products."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rau.errors import UserError
from rau.memory import peak_memory_bytes
from rau.params import MatmulPrecision


def choose(name: str, option: str = "train.device") -> torch.device:
    """The named device, or for `auto` the GPU where there is one.

    Args:
        option: what named it, for the error.

    Raises:
        UserError: when this machine does not have the device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"{option}={name} is not on this machine; use auto or cpu") from error
    return device


def peak_memory(device: torch.device) -> int:
    """Most memory that this process took on a GPU, or in the main memory of a CPU, in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_memory_bytes()


@contextmanager
def matmul_precision(precision: MatmulPrecision) -> Iterator[None]:
    """What torch rounds the factors of float32 matrix products to inside the block.

    Sums stay in float32. Where a device has no such products, it takes the next finer kind that it
    has: on a CPU `tf32` is seldom there, on a GPU `bfloat16` is `tf32`.
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
    """Torch's threads inside the block, and for the threads that start there."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
