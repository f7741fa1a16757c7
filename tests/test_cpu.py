"""How torch shares the cores of this machine."""

import pytest

from rau import cpu


@pytest.mark.parametrize(
    ("asked", "cores", "jobs", "processes", "threads"),
    [(0, 8, 2, 1, 4), (0, 8, 1, 1, 8), (0, 2, 4, 1, 1), (3, 8, 2, 1, 3), (0, 8, 2, 2, 2)],
)
def test_threads_share_the_cores_among_parallel_jobs(
    monkeypatch: pytest.MonkeyPatch,
    asked: int,
    cores: int,
    jobs: int,
    processes: int,
    threads: int,
) -> None:
    given: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", given.append)
    monkeypatch.setattr(cpu, "cores", lambda: cores)
    monkeypatch.setattr(cpu, "parallel_jobs", lambda: jobs)
    assert cpu.limit_threads(asked, processes) == threads
    assert given == [threads]
