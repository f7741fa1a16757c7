"""Jobs among actors that end; a stand-in for Ray runs them as they are waited for."""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from rau.actors import TRIES, divide, places
from rau.errors import UserError


class RayError(Exception):
    pass


class RayTaskError(RayError):
    cause: Exception


class Method:
    def __init__(self, call: Callable[..., Any]) -> None:
        self.remote = lambda *arguments: lambda: call(*arguments)


class Actor:
    """Doubles numbers; `ends` says over which of them it ends, None is its start."""

    def __init__(self, ends: Callable[[int | None], bool]) -> None:
        self.start = Method(lambda: self._do(ends, None))
        self.work = Method(lambda job: self._do(ends, job))

    def _do(self, ends: Callable[[int | None], bool], job: int | None) -> int | None:
        if ends(job):
            raise RayError("the actor died\nin many words")
        return None if job is None else 2 * job


def standing_in(killed: list[Any]) -> ModuleType:
    return cast(
        ModuleType,
        SimpleNamespace(
            exceptions=SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError),
            wait=lambda refs, timeout: (refs[:1], refs[1:]),
            get=lambda ref: ref(),
            kill=killed.append,
        ),
    )


def run(
    ends: Callable[[int | None], bool] = lambda job: False,
    size: Callable[[], int] = lambda: 3,
    jobs: range = range(10),
) -> tuple[list[int], int]:
    """The results in order, and how many actors were made."""
    made: list[Actor] = []

    def make() -> Actor:
        made.append(Actor(ends))
        return made[-1]

    killed: list[Actor] = []
    found = list(divide(standing_in(killed), make, size, jobs, "add memory"))
    assert {id(actor) for actor in killed} <= {id(actor) for actor in made}
    assert sorted(job for job, _ in found) == [*jobs]
    return [result for _, result in sorted(found)], len(made)


def test_every_job_has_its_result() -> None:
    assert run() == ([2 * job for job in range(10)], 3)
    assert run(jobs=range(0)) == ([], 3)


def test_a_job_whose_actor_ended_is_done_by_another() -> None:
    seen: list[int | None] = []

    def ends(job: int | None) -> bool:
        seen.append(job)
        return job is not None and job % 2 == 1 and seen.count(job) < TRIES

    assert run(ends)[0] == [2 * job for job in range(10)]
    assert seen.count(3) == TRIES


def test_a_machine_that_joins_is_used() -> None:
    places = iter([1, 1, 1, 1])
    assert run(size=lambda: next(places, 4))[1] == 4


def test_a_job_that_ends_every_actor_ends_the_run() -> None:
    tried: list[int | None] = []

    def ends(job: int | None) -> bool:
        tried.append(job)
        return job == 4

    with pytest.raises(UserError) as caught:
        run(ends)
    assert str(caught.value) == (
        f"{TRIES} workers on Ray ended one after another (the actor died); add memory"
    )
    assert tried.count(4) == TRIES


def test_actors_that_never_start_end_the_run() -> None:
    starts: list[int | None] = []

    def ends(job: int | None) -> bool:
        starts.append(job)
        return job is None

    with pytest.raises(UserError, match="ended one after another"):
        run(ends)
    assert len(starts) == TRIES * 3


def test_what_a_job_raises_is_raised_and_every_actor_is_stopped() -> None:
    killed: list[Any] = []

    def refuse(job: int | None) -> bool:
        if job == 5:
            error = RayTaskError("a traceback")
            error.cause = UserError("5 is no number")
            raise error
        return False

    results = divide(standing_in(killed), lambda: Actor(refuse), lambda: 2, range(9), "")
    with pytest.raises(UserError, match=r"^5 is no number$"):
        list(results)
    assert len(killed) >= 1


def test_a_cluster_without_room_is_one_line() -> None:
    with pytest.raises(UserError, match="no node of the Ray cluster has room"):
        run(size=lambda: 0)


def test_a_cluster_that_is_busy_is_waited_for_with_a_word(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ray = standing_in([])
    empty = iter(range(2))
    ray.wait = lambda refs, timeout: ([] if next(empty, None) is not None else refs[:1], [])  # type: ignore[attr-defined]
    results = divide(ray, lambda: Actor(lambda job: False), lambda: 1, range(1), "")
    assert list(results) == [(0, 0)]
    assert capsys.readouterr().out.count("no Ray worker has started yet") == 2


@pytest.mark.parametrize(
    ("cores", "gpu", "room"),
    [
        (1, False, 13),
        (2, False, 6),
        (8, False, 1),
        (9, False, 0),
        (1, True, 5),
        (2, True, 2),
        (5, True, 0),
    ],
)
def test_an_actor_has_to_fit_on_one_machine(cores: int, gpu: bool, room: int) -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0}},
        {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 4.0}},
        {"Alive": True, "Resources": {"CPU": 1.0, "GPU": 1.0}},
        {"Alive": True, "Resources": {"memory": 1e9}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    ray = cast(ModuleType, SimpleNamespace(nodes=lambda: nodes))
    assert places(ray, cores, gpu) == room
