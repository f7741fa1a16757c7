"""`dvc.yaml` names the sources that each stage imports, so that an edit reruns what it must."""

from types import ModuleType
from typing import Any

import pytest
import yaml

from rau.evaluation import distractors
from rau.finetuning import run
from rau.training import fit
from tests.places import ROOT
from tests.sources import closure

FILES: dict[str, dict[str, Any]] = {
    name: yaml.safe_load((ROOT / name).read_text())["stages"]
    for name in ("dvc.yaml", "pipeline/dvc.yaml")
}
STAGES = [name for name in FILES["dvc.yaml"] if name != "track"]
LENGTHS = {"dvc.yaml": 110, "pipeline/dvc.yaml": 130}
# What every stage shares; an edit here is followed by `dvc repro --force` where it matters.
PLUMBING = frozenset(
    {
        "pipeline/stage.py",
        "rau/__init__.py",
        "rau/actors.py",
        "rau/ahead.py",
        "rau/cluster.py",
        "rau/console.py",
        "rau/cpu.py",
        "rau/datasets/__init__.py",
        "rau/datasets/store.py",
        "rau/devices.py",
        "rau/digests.py",
        "rau/errors.py",
        "rau/files.py",
        "rau/memory.py",
        "rau/params.py",
        "rau/plain_yaml.py",
        "rau/progress.py",
        "rau/project/named_models.py",
        "rau/project/workspace.py",
        "rau/schemas.py",
        "rau/table_metadata.py",
        "rau/shards.py",
        "rau/worker_pool.py",
    }
)


def sources(module: str) -> set[str]:
    """The modules that one imports, directly or not, without plumbing and empty packages."""
    found = closure(ROOT / f"{module.replace('.', '/')}.py", PLUMBING) - PLUMBING
    return {name for name in found if not name.endswith("/__init__.py")}


def within(name: str, dep: str) -> bool:
    return name == dep or name.startswith(f"{dep}/")


@pytest.mark.parametrize("stage", STAGES)
def test_deps_cover_the_imports(stage: str) -> None:
    found = FILES["dvc.yaml"][stage]
    used = sources(found["cmd"].split()[2])
    listed = [dep for dep in found["deps"] if dep.startswith(("rau/", "pipeline/"))]
    assert not {name for name in used if not any(within(name, dep) for dep in listed)}
    # And nothing is listed that no import reaches.
    assert not [dep for dep in listed if not any(within(name, dep) for name in used)]


@pytest.mark.parametrize("module", [fit, run], ids=["head", "encoder"])
def test_code_of_a_result_is_what_its_training_imports(module: ModuleType) -> None:
    # Of the registry only the own entry counts, which the digest takes by itself.
    used = {name.removeprefix("rau/") for name in sources(module.__name__)} - {"methods.py"}
    listed = module.SOURCES
    assert not {name for name in used if not any(within(name, source) for source in listed)}
    assert not [source for source in listed if not any(within(name, source) for name in used)]


def test_counts_of_distractors_are_kept_for_the_code_that_makes_them() -> None:
    figures = {"bootstrap", "diagnostics", "run_metrics"}
    # Methods come from outside: heads, and the baselines.
    modules = ("rau.evaluation.distractors", "rau.models.head", "rau.models.baselines")
    used = {name.removeprefix("rau/") for module in modules for name in sources(module)}
    used -= {"datasets/coverage.py", *(f"evaluation/{name}.py" for name in figures)}
    listed = distractors.SOURCES
    assert not {name for name in used if not any(within(name, source) for source in listed)}


@pytest.mark.parametrize("file", FILES)
def test_files_are_short(file: str) -> None:
    assert len((ROOT / file).read_text().splitlines()) <= LENGTHS[file]


def test_a_stage_that_never_ran_has_nothing_to_check_out() -> None:
    # DVC checks out every stage that it finds: the studies, which few run, have no outputs. They
    # run whenever they are asked to, and know by themselves which runs are finished.
    for studies in FILES["pipeline/dvc.yaml"].values():
        assert not studies.keys() & {"outs", "metrics", "plots"}
        assert studies["always_changed"]


def test_studies_depend_on_the_tables_and_features_that_their_page_describes() -> None:
    described = {f"data/{kind}/${{dataset.name}}" for kind in ("tables", "features")}
    for studies in FILES["pipeline/dvc.yaml"].values():
        assert described <= {*studies["deps"]}


def test_reports_and_statistics_do_not_retrain() -> None:
    edited = ["rau/features/cache.py", "rau/report/html.py", "rau/datasets/cirr.py"]
    edited.append("rau/evaluation/bootstrap.py")
    for stage in ("train", "deterministic"):
        deps = FILES["dvc.yaml"][stage]["deps"]
        assert not [(name, dep) for name in edited for dep in deps if within(name, dep)]
    # Of a study, runs that are stored are those of the same code.
    runs = [f"rau/{source}" for source in fit.SOURCES]
    assert not [(name, dep) for name in edited for dep in runs if within(name, dep)]
