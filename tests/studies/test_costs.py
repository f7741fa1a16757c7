"""Operations, bytes and times of work that is known."""

import pytest
import torch

from rau.studies import costs
from tests.studies.synthetic import trained


def test_a_product_has_two_operations_a_term() -> None:
    left, right = torch.ones(3, 5), torch.ones(5, 7)
    assert costs.flops(lambda: left @ right) == 2 * 3 * 5 * 7


def test_bytes_are_those_alive_at_once() -> None:
    start = torch.ones(1000)

    def chain() -> torch.Tensor:
        rows = start
        for _ in range(5):
            rows = rows * 2  # The one before is freed when the next is there.
        return rows

    def kept() -> list[torch.Tensor]:
        return [start * 2 for _ in range(5)]

    def in_place() -> None:
        rows = start * 2
        rows.add_(1).view(10, 100)
        start.view(10, 100)

    assert costs.peak_bytes(chain) == 2 * 4000
    assert costs.peak_bytes(kept) == 5 * 4000
    assert costs.peak_bytes(in_place) == 4000

    weight = torch.ones(1000, requires_grad=True)

    def backward() -> None:
        torch.autograd.backward((weight.exp() * 2).sum())

    # exp's result is kept for its gradient; all of a step counts, forwards and back.
    assert costs.peak_bytes(backward) >= 3 * 4000


def test_a_head_costs_what_its_layers_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "WIDTHS", (8, 16))
    monkeypatch.setattr(costs, "QUERIES", 4)
    monkeypatch.setattr(costs, "IMAGES", 60)
    monkeypatch.setattr(costs, "REPEATS", 2)
    one = trained()
    found = costs.cost(one)
    rows = [dict(zip(costs.NUMBERS, row, strict=True)) for row in found["numbers"]]
    assert found["ratio"].shape == (2, 2)
    assert all((numbers > 0).all() for numbers in found.values())
    small, large = rows
    assert small["parameters"] < large["parameters"]
    # An image passes the UA block alone: to and from `hidden`, mean and variance.
    hidden = one.head.config.hidden
    assert large["image_flops"] == pytest.approx(2 * 16 * hidden * 3, rel=0.01)
    # The variance of query and image is a layer that a deterministic head does not need.
    more = 2 * 8 * hidden * one.head.config.n
    assert small["query_flops"] - small["partner_query_flops"] == pytest.approx(more)
    assert small["step_flops"] > 3 * small["query_flops"] * one.params.train.batch_size
    assert costs.cost(trained(seed=1)) == {}
