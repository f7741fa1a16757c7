"""Benchmarks: their arithmetic, and that floor and usual loop do what ours does."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import typer
from torch.utils._python_dispatch import TorchDispatchMode

from bench import __main__ as command
from bench import harness, training
from bench.harness import Bench, Result
from bench.plain import Loss, PlainHead, loss_of
from bench.sizes import FASHIONIQ
from bench.table import inserted, lines
from rau.models.head import ComposedHead
from rau.params import UaParams
from tests.places import ROOT

CPU = torch.device("cpu")
WIDTH = 24
MIB = 2**20


class Clock:
    """Time that passes only where a work says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def work(self, *seconds: float) -> Callable[[], None]:
        """A work that takes so long each time, in turn."""
        left = iter(seconds)

        def run() -> None:
            self.now += next(left)

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(harness, "time", made)
    return made


def bench(folder: Path, scale: float = 1.0) -> Bench:
    return Bench(CPU, 3, scale, folder)


def test_a_turn_is_the_median_of_runs_after_the_first(clock: Clock, tmp_path: Path) -> None:
    works = {"ours": clock.work(99, 4, 2, 30), "floor": clock.work(99, 1, 1, 7)}
    assert bench(tmp_path).turns(**works) == {"ours": 4, "floor": 1}


def test_works_are_run_in_turns(tmp_path: Path) -> None:
    order: list[str] = []
    bench(tmp_path).turns(a=lambda: order.append("a"), b=lambda: order.append("b"))
    assert "".join(order) == "ab" * 4


def test_a_ratio_is_of_medians(clock: Clock, tmp_path: Path) -> None:
    found = bench(tmp_path).ratio(
        "g/c", clock.work(0, 3, 3, 9), clock.work(0, 2, 2, 2), "floor", 1.4
    )
    assert (found.value, found.reached) == (1.5, False)
    assert found.detail == {"seconds": 3, "floor_seconds": 2}


def test_a_timed_case_is_in_seconds(clock: Clock, tmp_path: Path) -> None:
    found = bench(tmp_path).timed("g/c", clock.work(0, 3, 1, 2), 2.0)
    assert (found.value, found.unit, found.reached) == (2, "s", True)


def test_sizes_follow_the_scale_but_stay_sensible(tmp_path: Path) -> None:
    assert [bench(tmp_path, 0.01).size(count) for count in (100, 10_000)] == [8, 100]


@pytest.mark.parametrize(
    ("value", "limit", "sense", "reached"),
    [
        (1.0, None, "at most", None),
        (1.0, 1.0, "at most", True),
        (1.1, 1.0, "at most", False),
        (1.0, 1.0, "at least", True),
        (0.9, 1.0, "at least", False),
    ],
)
def test_a_limit_is_kept_or_missed(
    value: float, limit: float | None, sense: Any, reached: bool | None
) -> None:
    result = Result("g/c", value, "x", limit=limit, sense=sense)
    assert result.reached is reached
    assert result.as_dict()["reached"] is reached


def test_the_table_says_what_is_missed_and_what_has_no_limit() -> None:
    results = [
        Result("g/kept", 1.25, "x", "floor", 1.3, detail={"seconds": 2.5, "floor_seconds": 2.0}),
        Result("g/missed", 0.5, "share", limit=0.9, sense="at least", detail={"seconds": 1.0}),
        Result("g/free", 3 * MIB, "bytes"),
    ]
    document = {"groups": {"g": {"results": [result.as_dict() for result in results]}}}
    assert lines(document)[2:] == [
        "| `g/kept` | 1.25 × | ≤ 1.3 × | floor | 2.5 (2) |",
        "| `g/missed` | 50.0 % | ≥ 90.0 %, missed |  | 1 |",
        "| `g/free` | 3 MiB |  |  |  |",
    ]


def test_groups_that_are_not_run_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cases(_: Bench) -> Iterator[Result]:
        yield Result("new", 1.0, "x")

    monkeypatch.setattr(command, "import_module", lambda _: SimpleNamespace(cases=cases))
    path = tmp_path / "out.json"
    old = {"results": [Result("old", 2.0, "x").as_dict()]}
    path.write_text(json.dumps({"groups": {"training": old, "features": old}}))
    command.main(["features"], "cpu", 1, 1.0, path)
    groups = json.loads(path.read_text())["groups"]
    assert list(groups) == ["features", "training"]
    assert groups["training"] == old
    assert [result["name"] for result in groups["features"]["results"]] == ["new"]


def test_an_unknown_group_is_refused(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="nothing is none of"):
        command.main(["nothing"], "cpu", 1, 1.0, tmp_path / "out.json")


@pytest.mark.parametrize("group", ["training", "ranking"])
def test_a_group_runs_through(group: str, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    command.main([group], "cpu", 1, 0.01, path)
    found = json.loads(path.read_text())["groups"][group]
    assert found["results"]
    assert all(result["name"].startswith(f"{group}/") for result in found["results"])


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the matrix products that are executed, by m * k * n."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: Counter[int] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if "mm" in func.overloadpacket.__name__:
            left, right = [value for value in args if isinstance(value, torch.Tensor)][-2:]
            self.found[left.numel() * right.shape[-1]] += 1
        return func(*args, **(kwargs or {}))


def test_the_floor_of_a_step_is_the_products_that_it_executes(tmp_path: Path) -> None:
    features, queries = training.synthetic(FASHIONIQ, WIDTH, bench(tmp_path, 0.01))
    trainer = training.trainer(features, queries, WIDTH)
    step = training.one_step(trainer)
    with Products() as executed:
        step()
    shapes = training.products(len(trainer.sampler.epoch(0)[0].query), WIDTH, training.HIDDEN)
    assert executed.found == Counter(m * k * n for m, k, n in shapes)


def test_the_usual_loop_has_our_loss_and_gradients() -> None:
    torch.manual_seed(0)
    config = training.config(WIDTH).model_copy(update={"dropout": 0.0, "isu": False})
    head = ComposedHead(config)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    plain = PlainHead(WIDTH, training.HIDDEN, 0.0)
    plain.take(head)
    reference, text, target = torch.randn(3, 16, WIDTH)
    ids = torch.arange(16) // 2
    ua = UaParams(theta=0.1, csu_weight=0.3, dr_weight=0.2)
    terms = head.loss(
        head.forward_source(reference, text),
        head.forward_target(target),
        ids,
        ua,
        True,
        0.5,
    )
    item = {"reference": reference, "text": text, "target": target, "target_id": ids}
    numbers = Loss(ua.theta, ua.csu_weight, ua.dr_weight, config.temperature)
    loss = loss_of(plain, item, numbers, sample=False)
    assert terms.positives.sum() > terms.base_positives.sum()
    torch.testing.assert_close(loss, terms.total, rtol=1e-5, atol=1e-5)
    torch.autograd.backward([loss, terms.total])
    # Gradients in the place of weights go by the same names.
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(parameter.grad if parameter.grad is not None else 0 * parameter)
    wanted = PlainHead(WIDTH, training.HIDDEN, 0.0)
    wanted.take(head)
    for own, theirs in zip(plain.parameters(), wanted.parameters(), strict=True):
        torch.testing.assert_close(own.grad, theirs.detach(), rtol=1e-5, atol=1e-5)


def test_page_shows_the_figures_that_are_kept() -> None:
    root = ROOT
    page = (root / "docs/performance.md").read_text()
    for path in (root / "bench/results").glob("*.json"):
        document = json.loads(path.read_text())
        assert inserted(page, path.stem, document) == page
    with pytest.raises(ValueError, match="tpu"):
        inserted(page, "tpu", {"groups": {}})
