"""Train queries that are left out, and wrong targets: how many, which, and what stays."""

from dataclasses import replace

import pytest

from rau.params import TrainParams
from rau.schemas import QueryRow, ends
from rau.training.degradation import degrade
from rau.training.fit import prepare
from rau.training.triplets import TrainSet, divide
from tests.training.test_trainer import params, synthetic


def split(**train: float) -> TrainSet:
    features, queries = synthetic()
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


def three_categories() -> TrainSet:
    features, queries = synthetic()
    whole = divide(queries, features, 0.2, 0)
    names = ("dress", "shirt", "toptee")
    parted: list[QueryRow] = [
        {**query, "category": names[int(query["reference_id"][:2]) % 3]} for query in whole.train
    ]
    return replace(whole, train=parted)


def kept(whole: TrainSet, **train: float) -> tuple[set[str], set[str]]:
    """Queries that are left, and those of them whose target is wrong."""
    right = {query["query_id"]: query for query in whole.train}
    found = degrade(whole, TrainParams.model_validate(train)).train
    wrong = {query["query_id"] for query in found if query != right[query["query_id"]]}
    return {query["query_id"] for query in found}, wrong


def test_less_data_is_a_part_of_more_at_every_noise_and_in_every_category() -> None:
    whole = three_categories()
    assert len({query["category"] for query in whole.train}) == 3
    for noise in (0.2, 0.5):
        some, all_wrong = kept(whole, fraction=0.7, noise=noise)
        for fraction in (0.2, 0.4):
            less, wrong = kept(whole, fraction=fraction, noise=noise)
            assert less < some
            assert wrong <= all_wrong
            assert less == kept(whole, fraction=fraction)[0]
        assert kept(whole, fraction=0.7, noise=0.1)[1] < all_wrong


def test_a_wrong_target_answers_its_query_by_no_known_relevance() -> None:
    features, queries = synthetic()
    whole = divide(queries, features, 0.2, 0)
    dresses = sorted({ends(query)[1] for query in by_category(whole.train, "dress")})
    answers = {"dress": dresses[3:], "shirt": None}
    known: list[QueryRow] = [
        {**query, "relevant": answers[query["category"]]} for query in whole.train
    ]
    found = degrade(replace(whole, train=known), TrainParams(noise=1.0))
    changed = by_category(found.train, "dress")
    wrong = [
        one for one, own in zip(changed, by_category(known, "dress"), strict=True) if one != own
    ]
    assert wrong
    assert all(query["target_id"] in dresses[:3] for query in wrong)
    # Where all of the category's targets are right, they stay.
    answers["dress"] = dresses
    known = [{**query, "relevant": answers[query["category"]]} for query in whole.train]
    found = degrade(replace(whole, train=known), TrainParams(noise=1.0))
    assert by_category(found.train, "dress") == by_category(known, "dress")
    assert found.replaced == len(by_category(known, "shirt"))


def test_a_query_alone_keeps_its_target() -> None:
    whole = split()
    one = replace(whole, train=by_category(whole.train, "dress")[:1])
    assert degrade(one, TrainParams(noise=1.0)).train == one.train


def test_a_training_uses_and_tells_what_is_left() -> None:
    features, queries = synthetic()
    prepared = prepare(params(fraction=0.5, noise=0.25).train, features, queries)
    counts = prepared.split.counts
    assert len(prepared.rows) == counts["train"] < len(split().train)
    assert f"{counts['left_out']:,} left out by train.fraction" in prepared.split.summary()
    assert f"{counts['replaced']:,} with a wrong target by train.noise" in prepared.split.summary()
    assert "by train" not in prepare(params().train, features, queries).split.summary()
