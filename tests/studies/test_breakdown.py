"""Groups of queries by what their captions say."""

import numpy as np
import pytest

from rau.datasets.garments.captions import ORDER_PHRASES
from rau.studies import (
    breakdown,
    plan,
)
from tests.studies.synthetic import results, tiny


@pytest.mark.parametrize(
    ("captions", "kind"),
    [
        (["is red", "has a v neck"], "one change"),
        (["is red and has a v neck", "is long"], "two changes"),
        (["is longer", "this one has more color."], "vague"),
        (["is longer", "is red"], "one change"),
        (["has a collar", "is leather"], "one change"),
    ],
)
def test_what_captions_say(captions: list[str], kind: str) -> None:
    assert breakdown.KINDS[breakdown.caption_kind(captions)] == kind


def test_every_comparison_of_garments_is_vague() -> None:
    phrases = [p for sides in ORDER_PHRASES.values() for side in sides for p in side]
    assert {breakdown.caption_kind([phrase]) for phrase in phrases} == {2}


def test_groups_of_queries_have_their_own_means() -> None:
    made, better = results(0, 0), results(0, 0)
    for number, one in enumerate([*made, *better]):
        one.extra["kinds/caption/dress"] = np.arange(80) % 3
        one.extra["kinds/answers/dress"] = np.where(np.arange(80) < 40, 1, 5)
        if number >= 3:
            one.values["original"]["dress"][:40] += 2
    pair = [plan.Variant(name, tiny(), {}) for name in ("a", "b")]
    table = breakdown.table(pair, {"a": made, "b": better}, "a", "recall_at_1")
    own = table[table.variant == "b"].set_index("group")
    assert own.queries.to_dict() == {
        "one change": 27,
        "two changes": 27,
        "vague": 26,
        "1 true answer": 40,
        "4 to 10 true answers": 40,
    }
    assert own.difference["1 true answer"] == pytest.approx(2)
    assert own.difference["4 to 10 true answers"] == pytest.approx(0)
