"""The device that tensors live on, and the threads and the memory that work on a CPU takes."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rau.errors import UserError
from rau.params import MatmulPrecision


def choose(name: str) -> torch.device:
    """The named device, or for `auto` the GPU where there is one.

    Raises:
        UserError: when this machine does not have the device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"train.device={name} is not on this machine; use auto or cpu") from error
    return device


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


# What glibc's mallopt takes; the largest threshold it accepts.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_MMAP_THRESHOLD = 32 * 2**20


def keep_memory() -> None:
    """Have this process keep the memory that tensors on the CPU leave, for the next ones.

    By default glibc hands blocks of a few MB back to the system, and every step of a training
    takes them anew, page by page; where pages are dear that is a fifth of the step. Up to 2 GB
    stay at the end of the heap of every process. Elsewhere than on glibc nothing happens.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
