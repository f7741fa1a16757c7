"""The holdout of studies on features of a fine-tuned encoder."""

from pathlib import Path

import pytest

from rau.errors import UserError
from rau.finetuning import record
from rau.params import Params, TrainParams
from rau.project import study_runs, workspace
from rau.studies import plan


@pytest.fixture
def tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the fine-tuned encoder of a project, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    folder = workspace.finetuned("garments")
    folder.mkdir(parents=True)
    return folder


def test_all_seeds_have_the_holdout_that_the_encoder_was_not_trained_on(tuned: Path) -> None:
    record.write(tuned, "both", "a key", TrainParams(seed=3, holdout=0.2))
    base = plan.base(study_runs.used(Params()), plan.PRESETS["smoke"])
    assert study_runs.used(Params(), encoders=True) == Params()
    runs = [plan.Variant("a head", base, {}).with_seed(seed).train for seed in (0, 4)]
    assert [run.seed for run in runs] == [0, 4]
    assert [(run.holdout, run.split_seed) for run in runs] == [(0.2, 3)] * 2


def test_heads_of_an_encoder_that_saw_one_seeds_part_of_the_queries_are_refused(
    tuned: Path,
) -> None:
    record.write(tuned, "both", "a key", TrainParams())
    for train in (TrainParams(fraction=0.1), TrainParams(noise=0.4)):
        part = Params(train=train)
        assert study_runs.used(part, encoders=True) == part
        with pytest.raises(UserError, match=r"train.fraction and train.noise: every seed"):
            study_runs.used(part)


def test_features_of_an_encoder_as_it_is_leave_every_seed_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    record.pass_on(workspace.finetuned("garments"))
    assert study_runs.used(Params()) == Params()
    assert TrainParams(seed=4).split_seed == 4


def test_features_of_the_user_have_every_regime_whatever_the_encoders_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    record.pass_on(workspace.finetuned("garments"))
    given = Params.model_validate({"features": {"source": "vectors"}})
    assert given.finetune.towers != "none"
    asked = [plan.WHOLE, (0.1, 0.4)]
    assert plan.regimes(study_runs.used(given), asked) == asked
