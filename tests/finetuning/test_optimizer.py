"""What the optimizer of fine-tuning is told at every step, and which weights are kept."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from rau.finetuning import run
from rau.finetuning.finetuner import Finetuner
from tests.finetuning import synthetic

Tuned = Callable[..., run.Finetuned]
Group = dict[str, Any]


@pytest.fixture
def steps() -> Iterator[list[list[Group]]]:
    """The optimizer's groups at every step; two epochs have six."""
    found: list[list[Group]] = []

    def note(optimizer: Optimizer, *_: Any) -> None:
        found.append([dict(group) for group in optimizer.param_groups])

    handle = register_optimizer_step_pre_hook(note)
    yield found
    handle.remove()


@pytest.mark.parametrize(
    ("options", "factors"),
    [
        ({"schedule": "constant", "warm_up": 0.0}, [1, 1, 1, 1, 1, 1]),
        ({"schedule": "constant", "warm_up": 0.5}, [1 / 3, 2 / 3, 1, 1, 1, 1]),
        ({"schedule": "cosine", "warm_up": 0.5}, [1 / 3, 2 / 3, 1, 1, 0.75, 0.25]),
    ],
)
def test_rates_of_towers_and_composer_follow_the_schedule(
    options: Group, factors: list[float], tuned: Tuned, steps: list[list[Group]]
) -> None:
    tuned(tower_lr=1e-4, composer_lr=2e-3, **options)
    found = [sorted({group["lr"] for group in groups}) for groups in steps]
    assert found == [pytest.approx([1e-4 * factor, 2e-3 * factor]) for factor in factors]


def test_weights_of_one_dimension_do_not_decay(tuned: Tuned, steps: list[list[Group]]) -> None:
    result = tuned(epochs=1, weight_decay=0.3, eps=1e-3)
    own = [*result.encoder.model.parameters(), *result.composer.parameters()]
    shapes = {id(weight): weight.ndim for weight in own}
    found = {
        (group["weight_decay"], shapes[id(weight)] > 1)
        for group in steps[0]
        for weight in group["params"]
    }
    assert found == {(0.3, True), (0.0, False)}
    assert {group["eps"] for group in steps[0]} == {1e-3}


@pytest.mark.parametrize("learned", [True, False])
def test_the_temperature_is_learned_where_asked(learned: bool, tuned: Tuned) -> None:
    result = tuned(learn_temperature=learned, temperature=0.1, composer_lr=1e-2)
    first, *_, last = [float(row["temperature"] or 0) for row in result.progress.history]
    assert math.isclose(first, 0.1, rel_tol=1e-5)
    assert (abs(last - first) > 1e-3) is learned


def test_the_average_over_the_steps_is_kept(
    tuned: Tuned, rising: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    share, own = 0.6, Finetuner._update
    mean: dict[str, Tensor] = {}
    last: dict[str, Tensor] = {}

    def update(self: Finetuner) -> Tensor:
        before = {name: w.detach().clone() for name, w in self.weights.items()}
        norm = own(self)
        for name, weight in self.weights.items():
            mean[name] = share * mean.get(name, before[name]) + (1 - share) * weight.detach()
            last[name] = weight.detach().clone()
        return norm

    monkeypatch.setattr(Finetuner, "_update", update)
    kept = synthetic.weights(tuned(epochs=1, ema=share))
    for name, weight in mean.items():
        torch.testing.assert_close(kept[name], weight)
    moved = [name for name in mean if not torch.allclose(mean[name], last[name], atol=1e-5)]
    assert len(moved) > len(mean) / 2
