"""`dvc.yaml` names the sources that each stage imports, so that an edit reruns what it must."""

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FILES: dict[str, dict[str, Any]] = {
    name: yaml.safe_load((ROOT / name).read_text())["stages"]
    for name in ("dvc.yaml", "pipeline/dvc.yaml")
}
# What every stage shares; an edit here is followed by `dvc repro --force` where it matters.
PLUMBING = {
    "pipeline/__init__.py",
    "pipeline/stage.py",
    "pipeline/store.py",
    "pipeline/workspace.py",
    "rau/__init__.py",
    "rau/datasets/__init__.py",
    "rau/devices.py",
    "rau/errors.py",
    "rau/files.py",
    "rau/params.py",
    "rau/schemas.py",
}
FOLDERS = ("rau/datasets/garments", "rau/report", "rau/sources", "rau/studies")


def imported(path: Path) -> set[Path]:
    """Files of the project that a module imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            place = ROOT / name.replace(".", "/")
            found |= {p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file()}
    return found


def sources(cmd: str) -> set[str]:
    """Everything that a stage's command imports."""
    module = cmd.split()[2]
    return sources_of(ROOT / f"{module.replace('.', '/')}.py")


def sources_of(start: Path) -> set[str]:
    """A module and all that it imports, packages that go together as their folder."""
    waiting = [start]
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop()
        # The store knows how to draw and fetch, but only `download` does.
        if path in seen or (path.name == "store.py" and start.name != "download.py"):
            continue
        seen.add(path)
        waiting += imported(path)
    names = {str(path.relative_to(ROOT)) for path in seen} - PLUMBING
    for folder in FOLDERS:
        inside = {name for name in names if name.startswith(f"{folder}/")}
        names = names - inside | ({folder} if inside else set())
    return names


@pytest.mark.parametrize(
    ("file", "stage"),
    [(file, name) for file, stages in FILES.items() for name in stages if name != "track"],
)
def test_deps_are_the_imports(file: str, stage: str) -> None:
    found = FILES[file][stage]
    listed = {dep for dep in found["deps"] if dep.startswith(("rau/", "pipeline/"))}
    assert listed == sources(found["cmd"])
