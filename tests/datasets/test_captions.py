"""Caption joins against strings worked out by hand from the protocols' text."""

import pytest

from rau.datasets import fashioniq
from rau.datasets.captions import (
    all_texts,
    joins_captions,
    query_texts,
    single_text,
    training_texts,
)
from tests.places import SHARED, needs

REAL = SHARED / "fashioniq"


def test_forward_strips_and_capitalises_the_first() -> None:
    assert query_texts(["is Red.", " has Sleeves?, "], "forward") == ["Is red and has Sleeves"]


def test_empty_side_is_kept() -> None:
    assert query_texts(["", "is red"], "forward") == [" and is red"]
    assert query_texts(["is red", " "], "forward") == ["Is red and "]


@pytest.mark.parametrize("join", ["both", "separate"])
def test_two_orders(join: str) -> None:
    expected = ["Is red and longer", "Longer and is red"]
    assert query_texts(["is red", "longer"], join) == expected  # type: ignore[arg-type]


def test_training_draws_four_texts() -> None:
    assert training_texts(["is red.", "longer"]) == [
        "Is red and longer",
        "Longer and is red",
        "Is red",
        "Longer",
    ]


def test_training_skips_empty_singles() -> None:
    assert training_texts(["is red", " ?"]) == ["Is red and ", " and is red", "Is red"]
    assert training_texts([".", ""]) == [" and ", " and "]


def test_a_single_caption_stands_as_it_is() -> None:
    assert training_texts([" turn it. "]) == ["turn it."]
    assert query_texts(["turn it."], "forward") == ["turn it."]
    assert query_texts(["turn it."], "separate") == ["turn it.", "turn it."]
    assert all_texts(["turn it."]) == ["turn it."]


def test_all_texts_cover_every_join() -> None:
    captions = ["is red", "longer"]
    asked = {*query_texts(captions, "separate"), *training_texts(captions)}
    assert set(all_texts(captions)) == asked
    assert len(all_texts(["a", "a"])) == 2


@pytest.mark.parametrize("captions", [["is red.", "longer"], [" turn it. "]])
def test_a_searched_caption_is_one_that_training_drew(captions: list[str]) -> None:
    joins = joins_captions([captions])
    assert joins == (len(captions) > 1)
    assert {single_text(caption, joins) for caption in captions} <= set(training_texts(captions))


@needs("fashioniq")
def test_separate_doubles_the_real_val_queries() -> None:
    queries = [q for q in fashioniq.read_annotations(REAL).queries if q["split"] == "val"]
    assert sum(len(query_texts(q["captions"], "separate")) for q in queries) == 12032
