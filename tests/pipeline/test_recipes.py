"""Recipes: files of parameters that an experiment is run with."""

import os
from pathlib import Path

import pytest

from pipeline import recipe as command
from rau.errors import UserError
from rau.params import recipe
from tests.places import ROOT
from tests.project import stage


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_is_valid_and_fine_tunes(path: Path) -> None:
    changes = recipe(ROOT / "params.yaml", path)
    assert changes["finetune.towers"] != "none"
    assert changes["encoder.name"] != "garments-clip"


def test_values_are_written_as_dvc_reads_them() -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    values = {
        "encoder.name": "hf-hub:timm/ViT-B-16-SigLIP",
        "finetune.tower_lr": 2e-6,
        "finetune.augment": ["flip", "crop"],
        "finetune.two_way": False,
        "finetune.micro_batch": None,
        "finetune.epochs": 100,
    }
    parsed = OverridesParser.create().parse_overrides([command.option(*v) for v in values.items()])
    assert {one.key_or_group: one.value() for one in parsed} == values


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
