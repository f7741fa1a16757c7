"""Whether dropout replaces ISU."""

import pytest

from rau.studies import (
    grid,
    plan,
)
from rau.studies.defined import dropout
from tests.studies.synthetic import results, tiny


def test_dropout_is_chosen_on_the_holdout_and_a_wrong_one_costs() -> None:
    shifts = {(0.3, 0.0): -4.0, (0.7, 0.0): 0.0, (0.3, 0.6): -1.0, (0.7, 0.6): 0.0}
    variants, found = [], {}
    for (share, sigma), shift in shifts.items():
        x = {"fraction": 0.1, "noise": 0.0, "dropout": share, "sigma": sigma}
        variants.append(plan.Variant(f"{share} {sigma}", tiny(), x))
        made = results(shift, 0)
        for one in made:
            one.params["train.select"] = "map"
            # The holdout errs on the deterministic head.
            one.summary["holdout_map"] = shift if sigma else -shift
        found[variants[-1].label] = made
    x = {"fraction": 0.1, "noise": 0.0}
    variants.append(plan.Variant("sum", tiny(), x))
    found["sum"] = results(2.5, 0)
    for one in found["sum"]:
        one.params["train.select"] = "map"
        one.summary["holdout_map"] = 0.0
    tables = dropout.own(variants, found)
    assert tables["untrained"].difference.tolist() == [pytest.approx(6.5)]
    own = tables["tuned"].set_index("sigma")
    assert own.dropout.to_dict() == {0.0: 0.3, 0.6: 0.7}
    assert own.difference[0.6] == pytest.approx(4)
    assert own.loss[0.6] == pytest.approx(1)
    # What is worst on the holdout is not worst on val.
    assert own.loss[0.0] == pytest.approx(-4)


def test_the_answer_to_dropout_says_where_no_head_left_its_start() -> None:
    def row(sigma: float, mean: float, gap: float, holdout: float = 0.0) -> dict[str, float]:
        ends = {f"{name}{end}": gap for name in ("difference", "flatter") for end in grid.ENDS}
        return {"sigma": sigma, "mean": mean, "holdout": holdout, **ends}

    untrained = row(0.0, 5.0, -1.5)
    kept = dropout._told([row(0.0, 5.0, 0.0), row(0.6, 5.0, 0.0)], untrained)
    assert kept == "every head kept the weighted sum that it starts as"
    # The σ that the holdout chose, not the one that is best on val.
    heads = [row(0.0, 6.0, 0.0), row(0.6, 6.5, 0.5, holdout=2.0), row(1.2, 6.75, 0.75, holdout=1.0)]
    assert dropout._told(heads, untrained).startswith(
        "ISU +0.50 [+0.50, +0.50] at its own dropout (σ 0.6), the untrained weighted sum -1.50 ["
    )
