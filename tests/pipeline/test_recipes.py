"""Recipes: files of parameters that an experiment is run with."""

import os
import shutil
from pathlib import Path

import pytest

from pipeline import recipe as command
from rau import params
from rau.errors import UserError
from rau.params import recipe
from tests.places import ROOT
from tests.project import stage

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
    found = params.flat(by_dvc(tmp_path, [command.option(*pair) for pair in changes.items()]))
    assert {name: found[name] for name in changes} == changes
    assert found == params.flat(params.Params()) | changes


@pytest.mark.parametrize("rate", ["2e-06", "1e-5", "0.00001", "1E-7", "3", "0.5"])
def test_a_rate_may_be_written_in_any_way(tmp_path: Path, rate: str) -> None:
    assert by_dvc(tmp_path, [f"train.lr={rate}"]).train.lr == float(rate)


def test_values_are_written_as_dvc_reads_them(tmp_path: Path) -> None:
    values = {
        "dataset.root": "yes",
        "encoder.name": "hf-hub:timm/ViT-B-16-SigLIP",
        "finetune.tower_lr": 2e-6,
        "finetune.augment": ("flip", "crop"),
        "finetune.two_way": False,
        "finetune.micro_batch": None,
        "finetune.epochs": 100,
    }
    found = params.flat(by_dvc(tmp_path, [command.option(*pair) for pair in values.items()]))
    assert {name: found[name] for name in values} == values


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
