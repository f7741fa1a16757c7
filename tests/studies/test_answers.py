"""Answers in a sentence."""

from dataclasses import replace

from rau.studies import (
    answers,
)
from tests.studies.synthetic import (
    study_tables,
)


def test_an_answer_says_which_variants_kept_their_start() -> None:
    made = study_tables("n", apart=0.5)
    assert answers.differing(made).startswith("Of 2, 2 better: n = 1 (+0.5")
    assert "its start kept" not in answers.differing(made)
    kept = made.runs.assign(best_epoch=made.runs.best_epoch.where(made.runs.variant != "n = 2", 0))
    told = answers.differing(replace(made, runs=kept))
    assert told.count("its start kept") == 1
    assert told.endswith("its start kept)")
    one_run = kept.index == kept.index[kept.variant == "n = 2"][0]
    trained = kept.assign(best_epoch=kept.best_epoch.mask(one_run, 4))
    assert "its start kept" not in answers.differing(replace(made, runs=trained))
