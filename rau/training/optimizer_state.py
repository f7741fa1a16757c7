"""An optimizer's state as named tensors, for safetensors files."""

from collections.abc import Mapping

import torch
from torch import Tensor


def to_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Every tensor of the state as `<number of the weight>.<name>`."""
    return {
        f"{number}.{name}": value
        for number, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }


def expected(optimizer: torch.optim.AdamW, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `to_tensors` names, with tensors of the right shapes, as far as `tensors` has it."""
    found: dict[str, Tensor] = {}
    # A weight that no loss reads has no moments.
    numbers = {key.split(".")[0] for key in tensors}
    for number, weight in enumerate(_weights(optimizer)):
        if str(number) in numbers:
            moments = {"step": torch.tensor(0.0), "exp_avg": weight, "exp_avg_sq": weight}
            found |= {f"{number}.{name}": value for name, value in moments.items()}
    return found


def _weights(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def from_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Take over what `to_tensors` gave; rates and decays stay the optimizer's own."""
    weights = _weights(optimizer)
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".")
        if value.ndim:
            # Laid out as its weight: a fused step pairs the two by their place in memory.
            value = torch.empty_like(weights[int(number)]).copy_(value)
        state.setdefault(int(number), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
