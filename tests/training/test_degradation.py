"""Train queries that are left out, and wrong targets: how many, which, and what stays."""

import pytest

from rau.params import TrainParams
from rau.schemas import QueryRow, ends
from rau.training.degradation import degrade
from rau.training.fit import prepare
from rau.training.triplets import TrainSet, divide
from tests.training.test_trainer import params, world


def split(**train: float) -> TrainSet:
    features, queries = world()
    whole = divide(queries, features, 0.2, 0)
    return degrade(whole, TrainParams.model_validate(train)) if train else whole


def by_category(queries: list[QueryRow], category: str) -> list[QueryRow]:
    return [query for query in queries if query["category"] == category]


def test_by_default_nothing_changes() -> None:
    assert split(seed=1) == split()


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5])
def test_a_fraction_of_every_category_is_kept_in_order(fraction: float) -> None:
    whole, part = split(), split(fraction=fraction)
    assert [query for query in whole.train if query in part.train] == part.train
    for category in ("dress", "shirt"):
        sizes = [len(by_category(one.train, category)) for one in (whole, part)]
        assert sizes[1] == round(fraction * sizes[0]) > 0
    assert part.left_out == len(whole.train) - len(part.train)
    assert (part.holdout, part.distractors) == (whole.holdout, whole.distractors)
    more = split(fraction=2 * fraction).train
    assert all(query in more for query in part.train)
    assert part.train != split(fraction=fraction, seed=1).train


@pytest.mark.parametrize("noise", [0.2, 0.4, 1.0])
def test_a_share_of_the_targets_is_wrong_and_nothing_else(noise: float) -> None:
    whole, noisy = split(), split(noise=noise)
    pairs = list(zip(whole.train, noisy.train, strict=True))
    assert all({**wrong, "target_id": right["target_id"]} == right for right, wrong in pairs)
    changed = [wrong for right, wrong in pairs if wrong != right]
    expected = [round(noise * len(by_category(whole.train, c))) for c in ("dress", "shirt")]
    assert noisy.replaced == len(changed) == sum(expected)
    for query in changed:
        assert query["target_id"] != query["reference_id"]
        assert query["target_id"] in {
            ends(other)[1] for other in by_category(whole.train, query["category"])
        }
    assert (noisy.holdout, noisy.distractors) == (whole.holdout, whole.distractors)
    assert noisy == split(noise=noise) != split(noise=noise, seed=1)


def test_too_few_targets_stay_right() -> None:
    whole = split()
    few = by_category(whole.train, "dress")[:2]
    one = TrainSet(few, whole.holdout, whole.distractors, 0, 0)
    assert degrade(one, TrainParams(noise=1.0)).train == few


def test_a_training_uses_and_tells_what_is_left() -> None:
    features, queries = world()
    prepared = prepare(params(fraction=0.5, noise=0.25).train, features, queries)
    counts = prepared.split.counts
    assert len(prepared.rows) == counts["train"] < len(split().train)
    assert f"{counts['left_out']:,} left out by train.fraction" in prepared.split.summary()
    assert f"{counts['replaced']:,} with a wrong target by train.noise" in prepared.split.summary()
    assert "by train" not in prepare(params().train, features, queries).split.summary()
