"""What an index can be filtered by."""

import pyarrow as pa
import pytest

from rau.service.filters import MAX_VALUES, _filter
from rau.service.messages import Choices, Filter, Flag, Range


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (["b", "a", None, "B"] * 2, Choices(kind="text", attribute="x", values=["a", "b", "B"])),
        (
            [["b", "a"], None, [], ["a", "b"]],
            Choices(kind="list", attribute="x", values=["a", "b"]),
        ),
        ([3, None, 1], Range(attribute="x", low=1, high=3)),
        ([0.5, float("nan"), float("inf"), 2], Range(attribute="x", low=0.5, high=2)),
        ([True, None], Flag(attribute="x")),
        (["a", "a"], None),
        ([2, 2], None),
        ([f"{n}" for n in range(MAX_VALUES + 1)] * 2, None),
        (["a", "b", "c", "c"], None),
        ([None, float("nan")], None),
    ],
)
def test_a_column_has_the_filter_of_its_values(
    column: list[object], expected: Filter | None
) -> None:
    assert _filter("x", pa.chunked_array([pa.array(column)])) == expected
