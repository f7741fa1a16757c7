"""The device that tensors live on, and the threads that work on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rau.errors import UserError


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
def threads(count: int) -> Iterator[None]:
    """Torch's threads inside the block, and for the threads that start there."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
