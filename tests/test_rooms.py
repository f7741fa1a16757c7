"""Rooms of the library depend downwards only."""

import tomllib
from pathlib import Path

import pytest

from tests.places import ROOT
from tests.sources import imported

LIBRARY = ROOT / "rau"
# From the ground up; the modules of `rau/` itself are below all of them.
FLOORS = (
    ("datasets", "nn"),
    ("download", "encoders", "losses"),
    ("features", "models"),
    ("retrieval",),
    ("evaluation", "training"),
    ("finetuning", "report"),
    ("studies",),
    ("search",),
    ("service",),
    ("api", "cli"),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS, 1) for room in rooms}
MODULES = sorted(LIBRARY.rglob("*.py"))
# Commands and the Python interface stand beside the stages: they may know where those write.
BESIDE_STAGES = ("api", "cli")
# These only name what lies above.
DOORS = (LIBRARY / "__init__.py", LIBRARY / "__main__.py")


def room(path: Path) -> str:
    """The folder of `rau/` that a module lies in; nothing for a module of `rau/` itself."""
    parts = path.relative_to(LIBRARY).parts
    return parts[0] if len(parts) > 1 else ""


def test_every_room_has_a_floor() -> None:
    assert {room(path) for path in MODULES} - {""} == set(FLOOR)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_go_downwards(path: Path) -> None:
    own = room(path)
    if path in DOORS:
        return
    others = {room(other) for other in imported(path) if other.is_relative_to(LIBRARY)}
    upwards = {other for other in others - {own, ""} if FLOOR.get(own, 0) <= FLOOR[other]}
    assert not upwards
    # The library knows nothing of its stages.
    assert own in BESIDE_STAGES or all(other.is_relative_to(LIBRARY) for other in imported(path))


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = [*LIBRARY.rglob("__init__.py"), *(ROOT / "pipeline").rglob("__init__.py")]
    assert set(listed) == {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in there
    }
