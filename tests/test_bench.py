"""Benchmarks: their arithmetic, and that floors and the usual loop compute what ours computes."""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import typer
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.utils.flop_counter import FlopCounterMode

from bench import __main__ as command
from bench import (
    features,
    finetuning,
    finetuning_growth,
    harness,
    ivf,
    lance,
    plain,
    ranking,
    ray,
    scale,
    search,
    service,
    training,
)
from bench.data import head_config
from bench.harness import Bench, Result
from bench.random_index import names
from bench.table import inserted, lines
from rau.encoders import small_clip
from rau.encoders.clip import load
from rau.finetuning.finetuner import Distinct
from rau.models.head import ComposedHead
from rau.params import UaParams
from rau.studies import plan
from tests.places import ROOT
from tests.sources import imported

CPU = torch.device("cpu")
WIDTH = 24
SMALL = small_clip.NAME


class Clock:
    """Time that passes only where a work says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order = ""

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, *seconds: float) -> Callable[[], None]:
        """A work that takes these times in turn."""
        left = iter(seconds)

        def run() -> None:
            self.now += next(left)
            self.order += name

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(harness, "timer", made)
    return made


def bench(folder: Path, scale: float = 1.0, repeats: int = 3) -> Bench:
    return Bench(CPU, repeats, scale, folder, load_seconds=0.2)


def test_a_ratio_is_of_medians_of_turns_after_a_first_run(clock: Clock, tmp_path: Path) -> None:
    case, floor = clock.work("c", 99, 4, 3, 30), clock.work("f", 99, 1, 7, 2)
    found = bench(tmp_path).ratio("g/c", case, floor, "product", 1.4)
    assert found == Result("g/c", 2.0, "x", "product", 1.4, 4.0, 2.0)
    assert clock.order == "cf" * 4


def test_times_on_ray_are_without_what_starting_takes(clock: Clock, tmp_path: Path) -> None:
    def work(start: float, each: float) -> Callable[[int], None]:
        def run(amount: int) -> None:
            clock.now += start + each * amount

        return run

    task = ray.Task(away=work(9, 3), here=work(1, 2), little=2, much=12)
    assert ray.net_seconds(bench(tmp_path), task) == (30, 20)


def test_the_study_on_ray_is_of_runs_that_train_to_the_end(tmp_path: Path) -> None:
    chosen = [plan.changed(ray.study_run(seed), {"train.epochs": 2}) for seed in range(2)]
    results = [*map(ray.study_source(tmp_path).runner(), chosen)]
    assert [found.summary["epochs"] for found in results] == [2, 2]


def test_benchmarks_run_without_the_tests() -> None:
    modules = sorted((ROOT / "bench").glob("*.py"))
    assert not {p for path in modules for p in imported(path) if p.is_relative_to(ROOT / "tests")}


def test_sizes_follow_the_scale_but_are_at_least_eight(tmp_path: Path) -> None:
    assert [bench(tmp_path, 0.01).size(count) for count in (100, 10_000)] == [8, 100]


@pytest.mark.parametrize(
    ("value", "limit", "exceeded"), [(1.0, None, False), (1.0, 1.0, False), (1.1, 1.0, True)]
)
def test_a_limit_is_the_largest_acceptable_value(
    value: float, limit: float | None, exceeded: bool
) -> None:
    assert Result("g/c", value, "x", limit=limit).exceeded is exceeded


def test_the_table_says_which_limits_are_exceeded() -> None:
    results = [
        Result("g/kept", 1.25, "x", "product", 1.3, 2.5, 2.0),
        Result("g/exceeded", 1.5, "x", "product", 1.3, 0.0123, 0.0082),
        Result("g/free", 3 * 2**20, "bytes"),
        Result("g/start", 9, "s", limit=8),
        Result("g/answers", 40, "/s"),
        Result("g/errors", 1, "", limit=0),
    ]
    assert lines(results)[2:] == [
        "| `g/kept` | 1.25 × | ≤ 1.30 × | product | 2.50 s | 2.00 s |",
        "| `g/exceeded` | 1.50 × | ≤ 1.30 ×, exceeded | product | 12.3 ms | 8.2 ms |",
        "| `g/free` | 3 MiB |  |  |  |  |",
        "| `g/start` | 9.00 s | ≤ 8.00 s, exceeded |  |  |  |",
        "| `g/answers` | 40.0 /s |  |  |  |  |",
        "| `g/errors` | 1 | ≤ 0, exceeded |  |  |  |",
    ]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the repository, and groups of one quick case each."""

    def group(name: str) -> SimpleNamespace:
        def cases(_: Bench) -> Iterator[Result]:
            yield Result(name, 1.0, "x")

        return SimpleNamespace(cases=cases)

    monkeypatch.setattr(command, "import_module", group)
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    monkeypatch.setattr(command, "PAGE", tmp_path / "page.md")
    (tmp_path / "page.md").write_text("Before.\n<!-- table: cpu -->\nold\n<!-- end -->\nAfter.\n")
    return tmp_path


def test_figures_that_are_kept_take_the_place_of_their_groups(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 0, 0))
    command.main(None, "cpu", 1, 1.0, write=True)
    first = json.loads((written / "cpu.json").read_text())
    assert [*first] == [group for group in command.GROUPS if group not in command.LONG]
    assert first["training"]["versions"]["torch"] == torch.__version__.split("+")[0]
    page = (written / "page.md").read_text()
    assert page.startswith("Before.\n")
    assert page.endswith("<!-- end -->\nAfter.\n")
    assert "old" not in page
    assert "| `bench.training` | 1.00 × |" in page
    assert page.count("threads, Linux") == page.count("| case |") == 1
    monkeypatch.setattr(os, "getloadavg", lambda: (3.25, 0, 0))
    command.main(["training"], "cpu", 1, 0.5, write=True)
    second = json.loads((written / "cpu.json").read_text())
    assert {name for name in first if first[name] != second[name]} == {"training"}
    page = (written / "page.md").read_text()
    assert page == inserted(page, "cpu", second)
    assert "threads, busy with a load of 3.2, " in page
    assert "Sizes are 0.5 of the usual ones." in page
    assert page.count("| case |") == 3


def test_figures_are_only_printed_unless_they_are_to_be_kept(
    written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (written / "page.md").read_text()
    command.main(["training"], "cpu", 1, 1.0)
    assert "| `bench.training` | 1.00 × |" in capsys.readouterr().out
    assert (written / "page.md").read_text() == before
    assert not (written / "cpu.json").exists()


def test_an_unknown_group_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="nothing is not one of"):
        command.main(["nothing"], "cpu", 1, 1.0)


def test_a_page_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match="no line <!-- table: tpu -->"):
        inserted("<!-- table: cpu -->\n<!-- end -->", "tpu", {})


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_page_shows_the_figures_that_are_kept_and_no_others(device: str) -> None:
    page = (ROOT / "docs/performance.md").read_text()
    path = command.RESULTS / f"{device}.json"
    if path.exists():
        assert inserted(page, device, json.loads(path.read_text())) == page
    else:
        assert f"<!-- table: {device} -->\n<!-- end -->" in page


@pytest.mark.parametrize(
    ("cases", "count"),
    [
        (training.cases, 9),
        (ranking.cases, 5),
        (features.cases, 4),
        # The large encoder runs the same code.
        (partial(finetuning.cases, sizes=finetuning.SIZES[:1]), 3),
        (partial(search.cases, encoder=SMALL, galleries=(2000,), pictures=features.SIZES[:1]), 4),
        (partial(lance.cases, encoder=SMALL, sizes=(80_000,)), 4),
        (partial(service.cases, encoder=SMALL, clients=(2,)), 6),
    ],
)
def test_every_case_runs(
    cases: Callable[[Bench], Iterator[Result]], count: int, tmp_path: Path
) -> None:
    results = list(cases(bench(tmp_path, 0.004, 1)))
    assert len({result.name for result in results}) == count
    assert all(result.value > 0 or result.limit is not None for result in results)


def test_every_stage_is_measured_at_every_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without the import of torch by a process for each.
    monkeypatch.setattr(scale, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
    found = {r.name: r.value for r in scale.cases(bench(tmp_path, 0.004, 1), (100_000, 200_000))}
    stages = ("manifest", "features", "index", "search", "ranking", "ivf")
    figures = {f"scale/{name}/{count}/time" for name in stages for count in (400, 800)}
    assert figures <= found.keys()
    assert found["scale/ranking/800/disk"] > found["scale/ranking/400/disk"]
    assert found["scale/index/exponent of disk"] < 1.1
    # Every partition is read.
    assert found["scale/ivf/800/recall at 10"] > 0.9
    assert not [*tmp_path.glob("*00")]


def test_the_memory_of_an_ivf_index_is_without_the_ids_of_all_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lancedb")
    held: list[int] = []

    def named(count: int, start: int = 0) -> list[str]:
        held.append(count)
        return names(count, start)

    monkeypatch.setattr(ivf, "BLOCK", 256)
    monkeypatch.setattr(ivf, "names", named)
    assert ivf.figures(bench(tmp_path), 600, WIDTH)["recall at 10"] > 0.9
    assert held == [256, 256, 88]


def test_growth_of_fine_tuning_is_measured_at_every_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without the import of torch by a process for each.
    monkeypatch.setattr(
        finetuning_growth, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1)
    )
    for name, sizes in (("BATCHES", (16, 64)), ("MEMORY_BATCHES", (16, 64)), ("QUERIES", (16, 64))):
        monkeypatch.setattr(finetuning_growth, name, sizes)
    for name, size in (("MICRO", 8), ("EPOCH_BATCH", 16)):
        monkeypatch.setattr(finetuning_growth, name, size)
    decoded = ((SMALL, 48, 32, 16, 8),)
    results = {r.name: r for r in finetuning_growth.cases(bench(tmp_path, 1, 1), decoded)}
    label = f"finetuning_growth/{{}}/{SMALL}/{{}}"
    last = {"step": "exponent", "epoch": "exponent", "memory": "growth"}
    named = {label.format(kind, size) for kind, end in last.items() for size in (16, 64, end)}
    assert {*results} == named | {label.format("decoding epoch", 8)}
    # Four times the work.
    assert 0.5 < results[label.format("epoch", "exponent")].value < 1.5


def test_the_images_of_growing_batches_occur_once(tmp_path: Path) -> None:
    setup = finetuning_growth.distinct(bench(tmp_path), SMALL, 48, 32, 12, 12, cache="never")
    (batch,) = setup.finetuner().sampler.epoch(0)
    assert len(Distinct.of(batch).images) == 24


def test_an_exponent_is_the_power_that_a_figure_grows_with() -> None:
    assert harness.exponent([(10, 3.0), (100, 300.0), (1000, 30_000.0)]) == pytest.approx(2)
    assert harness.exponent([(10, 5.0), (1000, 5.0)]) == pytest.approx(0)


def test_the_floor_of_ranking_is_every_score() -> None:
    queries, gallery = torch.randn(1030, 5), torch.randn(7, 5)
    out = torch.empty(ranking.BLOCK, 7)
    with FlopCounterMode(display=False) as executed:
        ranking.product(queries, gallery, out)
    assert executed.get_total_flops() == 2 * 1030 * 5 * 7
    torch.testing.assert_close(out[:6], queries[1024:] @ gallery.T)


def test_the_floor_of_a_step_is_the_products_that_it_executes(tmp_path: Path) -> None:
    made = training.trainer(*training.synthetic(bench(tmp_path, 0.01), WIDTH))
    batch = made.sampler.epoch(0)[0]
    shapes = training.matmul_shapes(len(batch.query), WIDTH, training.HEAD.hidden)
    step = partial(training.one_step, made, batch)
    floor = training.bare_products(shapes, CPU, "float32")
    flops = []
    for work in (step, floor):
        with FlopCounterMode(display=False) as executed:
            work()
        flops.append(executed.get_total_flops())
    assert flops[0] == flops[1] == sum(2 * m * k * n for m, k, n in shapes)


def test_the_usual_loop_has_our_loss_and_gradients() -> None:
    torch.manual_seed(0)
    config = head_config(training.PARAMS, WIDTH).model_copy(update={"dropout": 0.0, "isu": False})
    head = ComposedHead(config)
    usual = plain.PlainHead(WIDTH, training.HEAD.hidden, 0.0)
    weights = parameters_to_vector(head.parameters())
    weights = weights.detach() + 0.1 * torch.randn_like(weights)
    for module in (head, usual):
        vector_to_parameters(weights, module.parameters())
    reference, text, target = torch.randn(3, 16, WIDTH)
    ids = torch.arange(16) // 2
    ua = UaParams(theta=0.1, csu_weight=0.3, dr_weight=0.2, isu=False)
    source, goal = head.forward_source(reference, text), head.forward_target(target)
    terms = head.loss(source, goal, ids, ua, True, 0.5)
    item = {"reference": reference, "text": text, "target": target, "target_id": ids}
    loss = plain.loss_of(usual, item, ua, config.temperature)
    assert terms.positives.sum() > terms.base_positives.sum()
    torch.testing.assert_close(loss, terms.total, rtol=1e-5, atol=1e-5)
    torch.autograd.backward([loss, terms.total])
    for ours, theirs in zip(head.parameters(), usual.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-5)


def test_an_epoch_of_the_usual_loop_has_every_triplet_once(tmp_path: Path) -> None:
    table, queries = training.synthetic(bench(tmp_path, 0.01), WIDTH)
    loader = training.usual_epoch(table, queries).args[2]  # type: ignore[attr-defined]
    seen = torch.cat([item["target_id"] for item in loader])
    assert seen.sort().values.equal(queries.target.sort().values)


def test_the_floor_of_fine_tuning_lacks_only_the_logits(
    tmp_path: Path, encoder_folder: Path
) -> None:
    encoder = load(encoder_folder, CPU)
    setup = finetuning.make_setup(bench(tmp_path), encoder, 20, 48, 32, 12, 12)
    made = setup.finetuner(**finetuning.CLIP4CIR)
    batch = made.sampler.epoch(0)[0]
    flops = []
    for work in (
        partial(finetuning.one_step, made, batch),
        finetuning.bare_step(made, setup, batch),
    ):
        with FlopCounterMode(display=False) as executed:
            work()
        flops.append(executed.get_total_flops())
    logits = 2 * 12 * 12 * encoder.model.visual.output_dim
    assert flops[0] - flops[1] == 3 * logits


def test_the_usual_fine_tuning_has_our_gradients(tmp_path: Path, encoder_folder: Path) -> None:
    found = []
    for ours in (True, False):
        encoder = load(encoder_folder, CPU)
        synthetic = finetuning.make_setup(bench(tmp_path), encoder, 20, 48, 32, 12, 12)
        # Four times the same caption: which one is drawn makes no difference.
        texts = synthetic.triplets.texts[:, :1].repeat(1, 4)
        synthetic = replace(synthetic, triplets=replace(synthetic.triplets, texts=texts))
        if ours:
            made = synthetic.finetuner(**finetuning.CLIP4CIR)
            finetuning.one_step(made, made.sampler.epoch(0)[0])
        else:
            synthetic.clip4cir(workers=0)()
        weights = encoder.model.parameters()
        found.append(torch.cat([w.grad.flatten() for w in weights if w.grad is not None]))
    assert (found[0] - found[1]).norm() < 1e-3 * found[0].norm()
