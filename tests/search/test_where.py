"""Filters: what they mean, what they refuse, and that every engine reads them alike."""

import random
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from rau.errors import UserError
from rau.search.where import MAX_DEPTH, parse, passing

# The least integer that no float is.
ODD = 2**53 + 1
TABLE = pa.table(
    {
        "category": ["dress", "shirt", None, "dress", "o'hare", "a%b\nc"],
        "price": pa.array([10.0, 50.0, 5.5, None, -1.0, 50.0]),
        "stock": pa.array([1, 0, 3, 2, None, 7]),
        "sale": pa.array([True, False, None, True, False, True]),
        "colours": pa.array([["red", "blue"], [], None, ["blue"], ["red"], ["o'x"]]),
        "heel height": pa.array([1, 2, 3, 4, 5, 6]),
        "views": pa.array([ODD, 50, None, 9, 10, 55]),
        "path": ["a\\b", "a\\%b", "a%b", None, "a\\\\b", "a_b"],
    }
)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("category = 'dress'", [0, 3]),
        ("category = 'dress' and price < 50", [0]),
        ("category <> 'dress'", [1, 4, 5]),
        ("not category = 'dress'", [1, 4, 5]),
        ("category is null or price is null", [2, 3]),
        ("category is not null", [0, 1, 3, 4, 5]),
        ("category in ('dress', 'shirt')", [0, 1, 3]),
        ("category not in ('dress')", [1, 4, 5]),
        ("price between 5 and 10", [0, 2]),
        ("price not between 5 and 10", [1, 4, 5]),
        ("PRICE >= 50".replace("PRICE", "price"), [1, 5]),
        ("price = -1", [4]),
        ("price < 1e300 and price > -1.5e0", [0, 1, 2, 4, 5]),
        ("price > 1e-400", [0, 1, 2, 5]),
        ("stock > 1.5", [2, 3, 5]),
        ("sale = true", [0, 3, 5]),
        ("views < 49.5", [3, 4]),
        ("views = 50.0", [1]),
        ("views between 9.5 and 55", [1, 4, 5]),
        ("views < 1e3", [1, 3, 4, 5]),
        (f"views = {ODD}", [0]),
        (f"price < {ODD}", [0, 1, 2, 4, 5]),
        ("path like 'a\\b'", [0]),
        ("path like 'a\\%b'", [0, 1, 4]),
        ("path like 'a\\\\b'", [4]),
        ("colours contains 'red'", [0, 4]),
        ("colours not contains 'red'", [1, 3, 5]),
        ("category = 'o''hare'", [4]),
        ("category like 'd%'", [0, 3]),
        ("category like '_h%t'", [1]),
        ("category like 'a%c'", [5]),
        ("category like 'a\\%'", []),
        ('"heel height" > 4', [4, 5]),
        ("price < 20 and (stock = 1 or stock = 3)", [0, 2]),
        ("price < 20 or stock = 7 AND sale = false", [0, 2, 4]),
    ],
)
def test_rows_that_pass(text: str, rows: list[int]) -> None:
    assert np.flatnonzero(passing(parse(text, TABLE.schema), TABLE)).tolist() == rows


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a column"),
        ("size = 3", "unknown attribute size; choose from category, price"),
        ("category = 3", "a string in single quotes"),
        ("price = 'x'", "a number"),
        ("price < 1 price", "and, or, or the end"),
        ("(price < 1", r"expected '\)'"),
        ("price ; drop", "';"),
        ("category = 'x", "unexpected"),
        ("colours = 'red'", "use `contains`"),
        ("category contains 'x'", "not a list"),
        ("price like 'x'", "`like` needs a string"),
        ("price not < 3", "expected"),
        ("(" * 200 + "price < 1", "nested deeper"),
        ("not " * 200 + "price < 1", "nested deeper"),
        ("price = " + "1" * 20_000, "longer than"),
        ("price > 1e400", "number 1e400 is too large"),
        ("price > -1e400", "number -1e400 is too large"),
        ("price = " + "1" * 400, "is too large"),
    ],
)
def test_a_wrong_filter_is_one_line(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse(text, TABLE.schema)


def test_a_long_list_is_no_deep_tree() -> None:
    values = ", ".join(f"'{n}'" for n in range(1200))
    assert not passing(parse(f"category in ({values})", TABLE.schema), TABLE).any()


@pytest.mark.parametrize("word", ["or", "and"])
def test_a_long_chain_is_no_deep_tree(word: str) -> None:
    table = pa.table({"n": [2, 1]})
    condition = parse(f"{word} ".join(["n=1"] * 1400), table.schema)
    assert passing(condition, table).tolist() == [False, True]


def test_a_string_cannot_leave_its_quotes_in_sql() -> None:
    sql = parse("category = 'x'' or 1=1 --'", TABLE.schema).sql({"category": "a0"})
    assert sql == "(a0 = 'x'' or 1=1 --')"


BACKSLASHES = ["a\\b", "a\\%b", "a\\\\b", "a\\_b", "a_b", "%\\%", "a\\\\%", "a\\"]


def random_filter(rng: random.Random, depth: int = 3) -> str:
    """Any filter of the language over `TABLE`."""
    if depth and rng.random() < 0.6:
        left, right = (random_filter(rng, depth - 1) for _ in range(2))
        return rng.choice([f"({left} and {right})", f"({left} or {right})", f"not ({left})"])
    operator = rng.choice(["=", "!=", "<", "<=", ">", ">="])
    word = rng.choice(["dress", "shirt", "red", "blue", "o''x", "o''hare"])
    negated = rng.choice(["", "not "])
    return rng.choice(
        [
            f"category {operator} '{word}'",
            f"price {operator} {rng.choice([5, 5.5, 50, -1])}",
            f"stock {operator} {rng.randrange(8)}",
            f"views {operator} {rng.choice([9.5, 50.0, '1e3', 50, ODD])}",
            f"views {negated}between 9.5 and {rng.choice([50, 54.5])}",
            f"sale = {rng.choice(['true', 'false'])}",
            f"category {negated}in ('{word}', 'dress')",
            f"stock {negated}in (1, {rng.randrange(8)})",
            f"price {negated}between 1 and {rng.randrange(60)}",
            f"category {negated}like '{rng.choice(['d%', '%s%', '_h%t', '%', 'a%c'])}'",
            f"path {negated}like '{rng.choice(BACKSLASHES)}'",
            f"colours {negated}contains '{word}'",
            f"{rng.choice(TABLE.column_names[:5])} is {negated}null",
        ]
    )


Rows = Callable[[str], set[int]]


@pytest.fixture(name="lancedb_rows", scope="module")
def _lancedb_rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The rows of `TABLE` that pass a filter in LanceDB."""
    from rau.search.engines.lance import Lance

    engine = Lance.new(tmp_path_factory.mktemp("lance"), TABLE.schema, 4)
    vectors = np.random.default_rng(0).standard_normal((len(TABLE), 4)).astype(np.float16)
    engine.add(pa.array([str(number) for number in range(len(TABLE))]), TABLE, vectors)
    engine.flush()

    def rows(text: str) -> set[int]:
        query, condition = vectors[:1].astype(np.float32), parse(text, TABLE.schema)
        return {*map(int, engine.search(query, len(TABLE), condition)[0].ids)}

    return rows


def test_lancedb_reads_filters_alike(lancedb_rows: Rows) -> None:
    rng = random.Random(0)
    seen = set()
    for _ in range(200):
        text = random_filter(rng)
        expected = {*np.flatnonzero(passing(parse(text, TABLE.schema), TABLE)).tolist()}
        assert lancedb_rows(text) == expected, text
        seen.add(frozenset(expected))
    assert len(seen) > 20


def test_lancedb_reads_the_longest_and_the_deepest_filters(lancedb_rows: Rows) -> None:
    for word in (" or ", " and "):
        assert lancedb_rows(word.join(["stock=1"] * 800)) == {0}
    deep = "stock = 1"
    for _ in range(MAX_DEPTH - 1):
        deep = f"stock = 9 or price < 99 and ({deep})"
    assert lancedb_rows(deep) == {0}
    assert lancedb_rows("not " * (MAX_DEPTH - 2) + "stock = 1") == {0}
    both = "stock = 1"
    for _ in range(MAX_DEPTH - 1):
        both = "stock=1 or " * 80 + f"({both})"
    with pytest.raises(UserError, match="too deeply nested for the engine lancedb"):
        lancedb_rows(both)
