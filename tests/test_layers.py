"""Packages of the library import from lower layers only."""

import tomllib
from pathlib import Path

import pytest

from tests.places import ROOT
from tests.sources import imported

LIBRARY = ROOT / "rau"
# The lowest first; the modules of `rau/` itself are below all of them.
LAYERS = (
    ("datasets", "nn"),
    ("download", "encoders", "losses"),
    ("features", "models"),
    ("retrieval",),
    ("evaluation", "training"),
    ("finetuning", "report"),
    ("studies",),
    ("search",),
    ("project", "service"),
    ("api", "cli"),
)
LAYER = {name: layer for layer, names in enumerate(LAYERS, 1) for name in names}
MODULES = sorted(LIBRARY.rglob("*.py"))
# These only name what lies above.
ENTRIES = (LIBRARY / "__init__.py", LIBRARY / "__main__.py")


def package(path: Path) -> str:
    """The package of `rau/` that a module lies in; nothing for a module of `rau/` itself."""
    parts = path.relative_to(LIBRARY).parts
    return parts[0] if len(parts) > 1 else ""


def test_every_package_has_a_layer() -> None:
    assert {package(path) for path in MODULES} - {""} == set(LAYER)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_go_downwards(path: Path) -> None:
    own = package(path)
    if path in ENTRIES:
        return
    found = imported(path)
    # The library knows nothing of its stages.
    assert all(other.is_relative_to(LIBRARY) for other in found)
    others = {package(other) for other in found}
    upwards = {other for other in others - {own, ""} if LAYER.get(own, 0) <= LAYER[other]}
    assert not upwards


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = (path.parent.relative_to(ROOT) for path in LIBRARY.rglob("__init__.py"))
    assert set(listed) == {path.as_posix().replace("/", ".") for path in there}
