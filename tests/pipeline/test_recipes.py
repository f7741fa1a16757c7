"""Recipes: files of parameters that an experiment is run with."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from pipeline import recipe as command
from rau import params
from rau.errors import UserError
from rau.finetuning import record
from rau.params import recipe
from tests.places import ROOT
from tests.project import call, runs, stage

RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_is_valid_and_fine_tunes(path: Path) -> None:
    changes = recipe(ROOT / "params.yaml", path)
    assert changes["finetune.towers"] != "none"
    assert changes["encoder.name"] != "garments-clip"


def by_dvc(folder: Path, options: list[str]) -> params.Params:
    """The parameters that `dvc exp run --queue` writes for options, as stages read them."""
    from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

    path = folder / "params.yaml"
    shutil.copyfile(ROOT / "params.yaml", path)
    for sweep in get_hydra_sweeps({str(path): options}):
        apply_overrides(path, sweep[str(path)])
    return params.load(path)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_a_recipe_reaches_the_stages_through_dvc(tmp_path: Path, path: Path) -> None:
    changes = recipe(ROOT / "params.yaml", path)
    found = by_dvc(tmp_path, [command.option(*pair) for pair in changes.items()])
    assert params.flat(found) == params.flat(params.Params()) | changes


@pytest.mark.parametrize("rate", ["2e-06", "1e-5", "0.00001", "1E-7", "3", "0.5"])
def test_a_rate_may_be_written_in_any_way(tmp_path: Path, rate: str) -> None:
    assert by_dvc(tmp_path, [f"train.lr={rate}"]).train.lr == float(rate)


NAMES = ["hf-hub:timm/ViT-B-16-SigLIP", "/data/my set (1)", "/data/a,b=c", "~/d", "it's", "a\\'b\\"]
NAMES += ["2024", "true", "yes", "1e5", "null", "a${b}", "[a]", "{a: b}", " a ", 'é "b"', "C:\\new"]


@pytest.mark.parametrize("name", NAMES)
def test_a_text_stays_what_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / "own.yaml").write_text(json.dumps({"dataset": {"root": name}}))
    changes = recipe(ROOT / "params.yaml", tmp_path / "own.yaml")
    found = by_dvc(tmp_path, [command.option(*pair) for pair in changes.items()])
    assert found.dataset.root == name


def test_values_of_every_kind_stay_what_they_are(tmp_path: Path) -> None:
    sections = {
        "dataset": {"garments": {"seed": 3}},
        "finetune": {"tower_lr": 2e-6, "augment": ["flip", "crop"], "two_way": False},
        "evaluate": {"custom": {"gallery": "original", "reference": "kept", "join": "both"}},
        "train": {"head": None},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(sections))
    changes = recipe(ROOT / "params.yaml", tmp_path / "own.yaml")
    found = by_dvc(tmp_path, [command.option(*pair) for pair in changes.items()])
    assert found == params.Params.model_validate(sections)


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("finetune: {epoch: 3}\n")
    with pytest.raises(UserError, match=r"own\.yaml: unknown parameter finetune\.epoch"):
        recipe(ROOT / "params.yaml", tmp_path / "own.yaml")


def test_the_command_runs_an_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "execvp", lambda name, words: commands.append(words))
    stage(ROOT, "recipe", "recipes/clip4cir.yaml", "--", "--queue")
    (words,) = commands
    assert words[:5] == ["dvc", "exp", "run", "--name", "clip4cir"]
    assert words[-1] == "--queue"
    assert "finetune.tower_lr=2e-06" in words
    assert 'finetune.composer="sum"' in words


def test_a_recipe_is_run_to_the_end(project: Path) -> None:
    """That of the text tower, on the tiny garments: what DVC is given reaches every stage."""
    own = yaml.safe_load((ROOT / "recipes/text_tower.yaml").read_text())
    del own["dataset"], own["encoder"]
    own["finetune"] |= {"epochs": 1, "batch_size": 32, "micro_batch": 16}
    (project / "text_tower.yaml").write_text(yaml.safe_dump(own))
    printed = call(project, sys.executable, "-m", "pipeline.recipe", "text_tower.yaml")
    assert "Running stage 'finetune'" in printed
    assert "Running stage 'encoder'" not in printed
    used = params.flat(params.load(project / "params.yaml"))
    changes = {f"finetune.{key}": value for key, value in own["finetune"].items()}
    assert used | changes == used
    assert record.Record.read(project / "data/finetuned/garments").towers == "text"
    (tracked,) = (
        run for run in runs(project).values() if run["tags"]["dvc_experiment"] == "text_tower"
    )
    assert tracked["params"]["finetune.towers"] == "text"
    assert "text_tower" in call(project, "dvc", "exp", "list")
