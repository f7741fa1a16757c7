"""Studies on a cluster: the same results as here, whatever dies meanwhile."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from threading import Thread
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from bench.ray_nodes import STORE_BYTES, cluster
from rau.errors import UserError
from rau.models.config import canonical
from rau.params import Params
from rau.studies import plan, runs
from rau.studies.ray_workers import RayWorkers, ray_workers
from rau.studies.run_store import RunStore
from rau.studies.workers import Runner
from tests.ray_nodes import kill_a_machine, kill_a_worker, wait_for_work
from tests.studies.synthetic import local, tiny, write_source


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    pytest.importorskip("ray")
    with cluster(workers=2) as found:
        yield found


@pytest.fixture(scope="module")
def workers(nodes: Any) -> Iterator[RayWorkers]:
    with ray_workers("auto", 0, 1) as found:
        yield found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> runs.Source:
    return write_source(tmp_path_factory.mktemp("synthetic"))


def wanted(count: int, changes: Mapping[str, Any] = MappingProxyType({})) -> list[Params]:
    return [canonical(plan.changed(tiny(seed=seed), changes)) for seed in range(count)]


def content(folder: Path, result: runs.Result) -> bytes:
    """The file of a result, but for the seconds that it took."""
    plain = replace(result, summary={**result.summary, "seconds": 0.0})
    runs.save(folder / "plain", plain)
    return (folder / "plain").read_bytes()


def test_results_are_those_of_this_machine(
    workers: RayWorkers, source: runs.Source, tmp_path: Path
) -> None:
    asked = wanted(3)
    here = RunStore(tmp_path / "here", source, local(1))
    there = RunStore(tmp_path / "there", source, workers)
    assert workers.device == "cpu"
    assert workers.jobs == 2
    assert [there.key(params) for params in asked] == [here.key(params) for params in asked]
    found = there.complete("there", asked)
    expected = here.complete("here", asked)
    assert found[0].summary["epochs"] == 1
    for one, other in zip(found, expected, strict=True):
        assert content(tmp_path, one) == content(tmp_path, other)
    assert there.seconds(asked) > there.seconds(asked[:1]) > 0


def test_a_stopped_study_keeps_what_it_finished(
    workers: RayWorkers, source: runs.Source, tmp_path: Path
) -> None:
    asked = wanted(4)
    store = RunStore(tmp_path / "runs", source, workers)

    class Stop(Exception):
        pass

    save = runs.save

    def once(path: Path, result: runs.Result) -> None:
        if list(store.folder.glob("*")):
            raise Stop
        save(path, result)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "save", once)
        with pytest.raises(Stop):
            store.complete("first", asked)
    (kept,) = store.folder.glob("*")
    before = kept.stat().st_mtime_ns
    assert len(store.missing(asked)) == 3
    store.complete("again", asked)
    assert kept.stat().st_mtime_ns == before
    assert not store.missing(asked)


def test_what_dies_is_done_again(
    nodes: Any, workers: RayWorkers, source: runs.Source, tmp_path: Path
) -> None:
    asked = wanted(4, {"train.epochs": 60, "train.patience": 0})
    store = RunStore(tmp_path / "runs", source, workers)
    study = Thread(target=store.complete, args=("study", asked), daemon=True)
    study.start()
    rng = Random(0)
    for _ in range(2):
        wait_for_work(nodes)
        kill_a_worker(nodes, rng)
        time.sleep(1)
    kill_a_machine(nodes, rng)
    study.join(300)
    here = RunStore(tmp_path / "here", source, local(2))
    for params, expected in zip(asked, here.complete("here", asked), strict=True):
        found = store.load(params)
        assert found is not None
        assert content(tmp_path, found) == content(tmp_path, expected)


def test_an_error_of_a_run_is_its_line_and_the_node(
    workers: RayWorkers, source: runs.Source, tmp_path: Path
) -> None:
    missing = replace(source, texts=tmp_path / "no.parquet")
    line = r"no\.parquet is missing; .* \(on .+\)$"
    with pytest.raises(UserError, match=line):
        list(workers.results(missing, wanted(2)))


def test_a_run_that_ends_every_worker_is_given_up(
    workers: RayWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rau.actors.TRIES", 2)

    @dataclass(frozen=True)
    class Deadly:
        device: str = "cpu"

        def runner(self) -> Runner:
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

    line = r"2 workers on Ray ended one after another \(.*\); finished runs are stored"
    with pytest.raises(UserError, match=line):
        list(workers.results(Deadly(), wanted(1)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("have", "device", "jobs", "cores", "expected"),
    [
        ([(8, 0)], "auto", 0, 1, ("cpu", 8, 0)),
        ([(8, 0)], "cpu", 3, 1, ("cpu", 3, 0)),
        ([(8, 0), (7, 0)], "cpu", 0, 4, ("cpu", 3, 0)),
        ([(8, 2)], "auto", 0, 1, ("cuda", 2, 1)),
        ([(8, 2)], "cuda:1", 5, 1, ("cuda", 5, 3)),
        ([(8, 2), (64, 0), (3, 1)], "auto", 0, 4, ("cuda", 2, 1)),
        ([(4, 8)], "auto", 8, 1, ("cuda", 8, 1)),
        ([(8, 2)], "cpu", 0, 1, ("cpu", 8, 0)),
    ],
)
def test_a_run_takes_its_cores_and_its_share_of_a_gpu(
    have: list[tuple[int, int]], device: str, jobs: int, cores: int, expected: tuple[str, int, int]
) -> None:
    found = RayWorkers(lambda: _having(have), device, jobs, cores)
    assert (found.device, found.jobs, found.per_gpu) == expected


@pytest.mark.parametrize(
    ("device", "cores", "reason"),
    [
        ("cuda", 1, "has the core and the GPU of a worker"),
        ("cpu", 9, r"has the 9 cores of a worker; lower study\.cores"),
        ("mps", 1, "Ray has no"),
    ],
)
def test_what_no_machine_of_the_cluster_has_is_refused(
    device: str, cores: int, reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        _ = RayWorkers(lambda: _having([(8, 0), (8, 0)]), device, 1, cores).per_gpu


def test_a_run_has_as_many_threads_as_cores_and_the_same_name(
    nodes: Any, workers: RayWorkers, source: runs.Source, tmp_path: Path
) -> None:
    larger = RayWorkers(lambda: workers._ray, "cpu", 0, cores=2)
    asked = wanted(1)
    with machine(nodes, num_cpus=2):
        assert larger.jobs == 1
        assert resources(larger, 1) == [{"threads": 2, "gpus": 0}]
        there = RunStore(tmp_path / "there", source, larger)
        (found,) = there.complete("there", asked)
    here = RunStore(tmp_path / "here", source, local(1))
    (expected,) = here.complete("here", asked)
    assert there.key(asked[0]) == here.key(asked[0])
    for protocol, own in expected.values.items():
        for category, values in own.items():
            np.testing.assert_allclose(found.values[protocol][category], values)


def test_runs_that_share_a_gpu_have_cores_of_their_own(nodes: Any, workers: RayWorkers) -> None:
    """No GPU is needed for one to be counted."""
    sharing = RayWorkers(lambda: workers._ray, "cuda", 2, cores=1)
    with machine(nodes, num_cpus=2, num_gpus=1):
        assert sharing.per_gpu == 2
        assert resources(sharing, 2) == 2 * [{"threads": 1, "gpus": 1}]


@contextmanager
def machine(nodes: Any, **resources: int) -> Iterator[None]:
    """One more machine of the cluster for a while."""
    added = nodes.add_node(**resources, object_store_memory=STORE_BYTES)
    try:
        yield
    finally:
        nodes.remove_node(added)


def resources(workers: RayWorkers, count: int) -> list[dict[str, float | None]]:
    """The numbers of threads and GPUs that so many runs have."""

    @dataclass(frozen=True)
    class Resources:
        device: str = "cpu"

        def runner(self) -> Runner:
            gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
            found: dict[str, float | None] = {
                "threads": torch.get_num_threads(),
                "gpus": sum(map(bool, gpus)),
            }
            return lambda params: runs.Result({}, found, [], {}, {}, {})

    found = workers.results(Resources(), wanted(count))  # type: ignore[arg-type]
    return [run.summary for _, run in found]


def test_what_is_stored_needs_no_cluster(
    source: runs.Source,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = wanted(1)
    expected = RunStore(tmp_path, source, local(1)).complete("here", asked)
    monkeypatch.setattr("rau.studies.ray_workers.connected", None)
    with ray_workers("cpu", 0, 1) as workers:
        found = RunStore(tmp_path, replace(source, device=workers.device), workers)
        found.forecast("all", asked)
        assert content(tmp_path, found.complete("there", asked)[0]) == content(tmp_path, *expected)
    assert "there: all 1 runs are stored" in capsys.readouterr().out


def _having(have: list[tuple[int, int]]) -> ModuleType:
    """Ray, as far as it says what cores and GPUs the machines of a cluster have."""
    ray = ModuleType("ray")
    nodes = [
        {"Alive": True, "Resources": {"CPU": float(cores), "GPU": float(gpus)}}
        for cores, gpus in have
    ]
    ray.nodes = lambda: nodes  # type: ignore[attr-defined]
    return ray
