"""Processes of this machine that execute runs."""

import pytest

from rau.studies.local_workers import LocalWorkers


@pytest.mark.parametrize(
    ("jobs", "cores", "expected"), [(0, 1, 8), (0, 3, 2), (0, 16, 1), (5, 3, 5)]
)
def test_runs_are_as_many_as_the_cores_allow(
    monkeypatch: pytest.MonkeyPatch, jobs: int, cores: int, expected: int
) -> None:
    monkeypatch.setattr("rau.cpu.cores", lambda: 8)
    assert LocalWorkers("cpu", jobs=jobs, cores=cores).jobs == expected
