"""Stages with `engine: ray`, on a cluster of several nodes: the results of this machine."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from bench.ray_nodes import cluster
from rau.features import on_ray
from rau.features.cache import LocalEngine
from rau.studies.local_workers import LocalWorkers
from tests.pipeline.test_features_stage import features, forget
from tests.project import stage, use


@pytest.fixture(scope="module", autouse=True)
def nodes() -> Iterator[None]:
    pytest.importorskip("ray")
    with cluster(workers=2):
        yield


def test_features_are_those_of_this_machine(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = features(project)
    forget(project)
    shutil.rmtree(project / "data/features")
    use(project, features={"engine": "ray"})
    monkeypatch.setattr(on_ray, "FEW", {"images": 0, "texts": 0})
    monkeypatch.setattr(LocalEngine, "__call__", None)
    stage(project, "features")
    for old, new in zip(before, features(project), strict=True):
        assert max(abs(a - b) for a, b in zip(old, new, strict=True)) < 0.05


def test_a_study_has_the_table_of_this_machine(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = project / "data/studies/garments/n/runs.csv"
    use(project, study={"preset": "smoke", "jobs": 1})
    stage(project, "study", "n")
    here = pd.read_csv(table)
    shutil.rmtree(project / "data/.parts/runs")
    table.unlink()
    use(project, study={"engine": "ray"})
    monkeypatch.setattr(LocalWorkers, "results", None)
    assert "6 runs, 0 stored" in stage(project, "study", "n")
    pd.testing.assert_frame_equal(
        here.drop(columns="seconds"), pd.read_csv(table).drop(columns="seconds")
    )
