"""Parameters that are refused before any stage works."""

from pathlib import Path

import pytest
import yaml

from rau.errors import UserError
from rau.params import Params
from rau.project import workspace


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"evaluate": {"headline": "cirr"}}, "evaluate.headline=cirr: choose from original, val"),
        (
            {"train": {"start": "finetuned"}, "finetune": {"towers": "none"}},
            "train.start=finetuned: with finetune.towers=none no composer is fine-tuned",
        ),
        (
            {"train": {"start": "finetuned"}, "features": {"source": "vectors"}},
            "train.start=finetuned: with features.source no composer is fine-tuned",
        ),
        (
            {"track": {"model": True}, "features": {"source": "vectors"}},
            "track.model=true: features.source names features",
        ),
    ],
)
def test_parameters_that_a_later_stage_refuses_are_refused_by_every_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sections: dict[str, object], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    workspace.PARAMS.write_text(yaml.safe_dump(sections))
    with pytest.raises(UserError, match=message):
        workspace.load_params()


def test_a_head_trained_elsewhere_starts_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train = {"start": "finetuned", "head": "elsewhere"}
    given = {"train": train, "finetune": {"towers": "none"}}
    workspace.PARAMS.write_text(yaml.safe_dump(given))
    assert workspace.load_params() == Params.model_validate(given)
