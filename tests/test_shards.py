"""Shares of work."""

import pytest

from rau.errors import UserError
from rau.shards import Shard


def test_a_shard_is_read_as_it_is_written() -> None:
    assert Shard.parse("2/3") == Shard(2, 3)
    assert str(Shard.parse("2/3")) == "2/3"


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "-1/2", "1/0", "1/2/3", " 1/2", "१/२"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="give i/n"):
        Shard.parse(text)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_every_part_is_in_one_share(count: int) -> None:
    shards = [Shard(index, count) for index in range(1, count + 1)]
    for part in [*range(20), *map(str, range(200))]:
        assert sum(shard.holds(part) for shard in shards) == 1


def test_shares_are_of_similar_size_and_the_same_everywhere() -> None:
    assert [number for number in range(6) if Shard(2, 3).holds(number)] == [1, 4]
    held = [name for name in map(str, range(1000)) if Shard(1, 4).holds(name)]
    assert 200 < len(held) < 300
    # Python's own hash would differ from process to process.
    assert [name for name in "abcdefgh" if Shard(1, 2).holds(name)] == list("abcef")
