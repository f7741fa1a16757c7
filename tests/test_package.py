"""The wheel: it installs elsewhere, with its data files and its command."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.places import ROOT


def run(*command: str, cwd: Path, **extra: str) -> str:
    """The output of a command of this Python that is to succeed."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env=os.environ | extra,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(name="wheel", scope="module")
def _wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"
    sources.mkdir()
    names = ("pyproject.toml", "README.md", "LICENSE", "rau", "pipeline")
    for name in names:
        (sources / name).symlink_to(ROOT / name)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")
    run("pip", "wheel", ".", *options, "-w", str(folder), cwd=sources)
    (found,) = folder.glob("*.whl")
    return found


def test_every_file_of_the_library_is_in_it_and_nothing_else(wheel: Path) -> None:
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    there = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "rau").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == there
    assert {"rau/py.typed", "rau/report/style.css", "rau/report/published.csv"} <= inside


def test_it_runs_where_the_sources_are_not(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "site"
    options = ("--no-deps", "--no-index", "--quiet", "--target", str(place))
    run("pip", "install", str(wheel), *options, cwd=tmp_path)
    shown = run("rau", "--help", cwd=tmp_path, PYTHONPATH=str(place))
    for command in ("index", "search", "serve", "triplets", "compare", "export"):
        assert command in shown
    code = "import rau, sys; print(rau.__file__, rau.__version__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(place)},
        capture_output=True,
        text=True,
        check=True,
    )
    where, version = done.stdout.split()
    assert Path(where).is_relative_to(place)
    assert version == wheel.name.split("-")[1]


def test_it_works_beside_modules_of_the_users_own(tmp_path: Path) -> None:
    # Stages are run in a checkout; nothing that is installed needs them, or takes their names.
    for name in ("pipeline", "bench", "docs", "tests"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('of the user')")
    path = {"PYTHONPATH": str(ROOT)}
    assert "FOLDER" in run("rau", "index", "--help", cwd=tmp_path, **path)
    lines = (
        "import rau",
        "try: rau.load('nowhere')",
        "except rau.UserError as no: print(no)",
    )
    (tmp_path / "script.py").write_text("\n".join(lines))
    assert "nowhere: no project's folder" in run("script", cwd=tmp_path, **path)


def test_extras_are_together_under_all() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert extras["all"] == [f"rau[{','.join(sorted({*extras} - {'all'}))}]"]
