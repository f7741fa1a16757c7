"""`dvc.yaml` names the sources that each stage imports, so that an edit reruns what it must."""

from typing import Any

import pytest
import yaml

from rau.training import fit
from tests.places import ROOT
from tests.sources import closure

FILES: dict[str, dict[str, Any]] = {
    name: yaml.safe_load((ROOT / name).read_text())["stages"]
    for name in ("dvc.yaml", "pipeline/dvc.yaml")
}
LENGTHS = {"dvc.yaml": 110, "pipeline/dvc.yaml": 130}
# What every stage shares; an edit here is followed by `dvc repro --force` where it matters.
PLUMBING = frozenset(
    {
        "pipeline/stage.py",
        "pipeline/workspace.py",
        "rau/datasets/store.py",
        "rau/devices.py",
        "rau/errors.py",
        "rau/files.py",
        "rau/params.py",
        "rau/schemas.py",
    }
)
STAGES = [(file, name) for file, stages in FILES.items() for name in stages if name != "track"]


def sources(module: str) -> set[str]:
    """The modules that one imports, directly or not, without plumbing and empty packages."""
    found = closure(ROOT / f"{module.replace('.', '/')}.py", PLUMBING) - PLUMBING
    return {name for name in found if not name.endswith("/__init__.py")}


def within(name: str, dep: str) -> bool:
    return name == dep or name.startswith(f"{dep}/")


@pytest.mark.parametrize(("file", "stage"), STAGES)
def test_deps_cover_the_imports(file: str, stage: str) -> None:
    found = FILES[file][stage]
    used = sources(found["cmd"].split()[2])
    listed = [dep for dep in found["deps"] if dep.startswith(("rau/", "pipeline/"))]
    assert not {name for name in used if not any(within(name, dep) for dep in listed)}
    # And nothing is listed that no import reaches.
    assert not [dep for dep in listed if not any(within(name, dep) for name in used)]


def test_code_of_a_head_is_what_its_training_imports() -> None:
    # Of the registry only the head's own entry counts, which the digest takes by itself.
    used = {name.removeprefix("rau/") for name in sources("rau.training.fit")} - {"methods.py"}
    assert not {name for name in used if not any(within(name, source) for source in fit.SOURCES)}
    assert not [source for source in fit.SOURCES if not any(within(name, source) for name in used)]


@pytest.mark.parametrize("file", FILES)
def test_files_are_short(file: str) -> None:
    assert len((ROOT / file).read_text().splitlines()) <= LENGTHS[file]


def test_reports_and_statistics_do_not_retrain() -> None:
    stages = [("dvc.yaml", "train"), ("dvc.yaml", "deterministic")]
    stages += [
        ("pipeline/dvc.yaml", name) for name in ("tune", "methods", "ablation", "theta", "n")
    ]
    for file, stage in stages:
        deps = FILES[file][stage]["deps"]
        edited = ["rau/features/cache.py", "rau/report/html.py", "rau/datasets/cirr.py"]
        if file == "dvc.yaml":
            edited.append("rau/evaluation/bootstrap.py")
        assert not [(name, dep) for name in edited for dep in deps if within(name, dep)]
