"""Filters on a catalogue's attributes: a subset of SQL, with the same results in every engine.

    condition   := conjunction ("or" conjunction)*
    conjunction := negation ("and" negation)*
    negation    := "not" negation | "(" condition ")" | test
    test        := column ("=" | "!=" | "<>" | "<" | "<=" | ">" | ">=") literal
                 | column ["not"] "in" "(" literal ("," literal)* ")"
                 | column ["not"] "between" literal "and" literal
                 | column ["not"] "like" string          % any text, _ one character
                 | column ["not"] "contains" literal     an element of a list
                 | column "is" ["not"] "null"

Strings are in single quotes ('' for a quote), columns with blanks in double quotes. Keywords can
have any case. As in SQL, a test of a null is neither true nor false, and a row passes if the
condition is true.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rau.errors import UserError

MAX_LENGTH = 10_000
# Of nested `not` and parentheses; SQL engines accept little more, and count long chains as well.
MAX_DEPTH = 10
# Of an integer: any with so many digits fits into Arrow's and SQL's largest type.
MAX_DIGITS = 18
Literal = str | int | float | bool
TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | '(?P<string>(?:[^']|'')*)'
      | "(?P<quoted>(?:[^"]|"")+)"
      | (?P<word>[^\W\d]\w*)
      | (?P<symbol><=|>=|<>|!=|[=<>(),])
    )""",
    re.VERBOSE,
)
COMPARE: Mapping[str, Callable[..., Any]] = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


class Condition(Protocol):
    """A node of a filter's syntax tree."""

    def arrow(self, table: pa.Table) -> Any:
        """Whether each row passes: boolean, null if unknown."""
        ...

    def sql(self, names: Mapping[str, str]) -> str:
        """The condition in DataFusion's SQL; `names` maps columns to the engine's names."""
        ...


@dataclass(frozen=True)
class Compare:
    """Comparison of a column with a literal; integers are compared with a float as floats."""

    column: str
    operator: str
    value: Literal

    def arrow(self, table: pa.Table) -> Any:
        """See `Condition`."""
        column = table[self.column]
        if isinstance(self.value, float):
            column = column.cast(pa.float64(), safe=False)
        return COMPARE[self.operator](column, pa.scalar(self.value))

    def sql(self, names: Mapping[str, str]) -> str:
        """See `Condition`."""
        column = names[self.column]
        if isinstance(self.value, float):
            column = f"CAST({column} AS DOUBLE)"
        operator = "<>" if self.operator == "!=" else self.operator
        return f"({column} {operator} {sql_literal(self.value)})"


@dataclass(frozen=True)
class Like:
    """Match of a string column with a pattern."""

    column: str
    pattern: str

    def arrow(self, table: pa.Table) -> Any:
        """See `Condition`."""
        # Arrow's `match_like` interprets a backslash as an escape and stops at a line's end.
        parts = {"%": "(?s:.*)", "_": "(?s:.)"}
        pattern = "".join(parts.get(one) or _re2(one) for one in self.pattern)
        return pc.match_substring_regex(table[self.column], f"^(?:{pattern})\\z")

    def sql(self, names: Mapping[str, str]) -> str:
        """See `Condition`."""
        # In SQL a backslash is an escape; here it is an ordinary character.
        pattern = self.pattern.replace("\\", "\\\\")
        return f"({names[self.column]} LIKE {sql_literal(pattern)})"


@dataclass(frozen=True)
class Contains:
    """Whether a list column contains a value."""

    column: str
    value: Literal

    def arrow(self, table: pa.Table) -> Any:
        """See `Condition`."""
        # A single chunk of all rows could exceed the size of a text array.
        chunks = [self._inside(chunk) for chunk in table[self.column].chunks]
        return pa.chunked_array(chunks, pa.bool_())

    def _inside(self, column: pa.Array) -> pa.Array:
        found = pc.equal(pc.list_flatten(column), pa.scalar(self.value))
        rows = pc.list_parent_indices(column).filter(found)
        inside = pc.is_in(pa.array(np.arange(len(column))), rows.cast(pa.int64()))
        return pc.if_else(pc.is_null(column), pa.scalar(None, pa.bool_()), inside)

    def sql(self, names: Mapping[str, str]) -> str:
        """See `Condition`."""
        return f"array_has({names[self.column]}, {sql_literal(self.value)})"


@dataclass(frozen=True)
class IsNull:
    """Whether a column has no value."""

    column: str

    def arrow(self, table: pa.Table) -> Any:
        """See `Condition`."""
        return pc.is_null(table[self.column])

    def sql(self, names: Mapping[str, str]) -> str:
        """See `Condition`."""
        return f"({names[self.column]} IS NULL)"


@dataclass(frozen=True)
class Not:
    """Negation of a condition; the negation of unknown is unknown."""

    inner: Condition

    def arrow(self, table: pa.Table) -> Any:
        """See `Condition`."""
        return pc.invert(self.inner.arrow(table))

    def sql(self, names: Mapping[str, str]) -> str:
        """See `Condition`."""
        return f"(NOT {self.inner.sql(names)})"


@dataclass(frozen=True)
class Both:
    """Two conditions joined by `and`, or by `or` if `either`."""

    left: Condition
    right: Condition
    either: bool = False

    def arrow(self, table: pa.Table) -> Any:
        """See `Condition`."""
        join = pc.or_kleene if self.either else pc.and_kleene
        return join(self.left.arrow(table), self.right.arrow(table))

    def sql(self, names: Mapping[str, str]) -> str:
        """See `Condition`."""
        return f"({self.left.sql(names)} {'OR' if self.either else 'AND'} {self.right.sql(names)})"


def passing(condition: Condition, table: pa.Table) -> Any:
    """Whether each row of a table passes: a boolean array (N,) without nulls."""
    found = condition.arrow(table)
    chunks = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
    return pc.fill_null(chunks, False).to_numpy(zero_copy_only=False)


def columns(condition: Condition) -> set[str]:
    """The columns that a filter names."""
    if isinstance(condition, Not):
        return columns(condition.inner)
    if isinstance(condition, Both):
        return columns(condition.left) | columns(condition.right)
    assert isinstance(condition, Compare | Like | Contains | IsNull)
    return {condition.column}


def parse(text: str, schema: pa.Schema) -> Condition:
    """Read a filter.

    Args:
        schema: the attributes' columns that it can name.

    Raises:
        UserError: if it is malformed, names another column, or compares a column with a value of
            another type.
    """
    if len(text) > MAX_LENGTH:
        raise UserError(f"the filter is longer than {MAX_LENGTH:,} characters")
    return _Parser(text, schema).whole()


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while text[at:].strip():
        match = TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise UserError(f"filter, character {at + 1}: {text[at:].strip()[:20]!r} is unexpected")
        found.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        at = match.end()
    return [*found, _Token("end", "", len(text))]


class _Parser:
    """Recursive descent parser with one method per rule of the grammar above."""

    def __init__(self, text: str, schema: pa.Schema) -> None:
        self.tokens, self.schema, self.at, self.depth = _tokens(text), schema, 0, 0

    def whole(self) -> Condition:
        found = self.condition()
        if self.next.kind != "end":
            raise self.wrong("and, or, or the end")
        return found

    @property
    def next(self) -> _Token:
        return self.tokens[self.at]

    def wrong(self, expected: str) -> UserError:
        got = self.next.text[:20] or "the end"
        return UserError(
            f"filter, character {self.next.at + 1}: expected {expected}, got {got!r}; for example "
            "\"category = 'dress' and price < 50\""
        )

    def takes(self, *words: str) -> bool:
        """Skip these words or symbols if they are next; returns whether they were."""
        own = self.tokens[self.at : self.at + len(words)]
        if [t.text.lower() for t in own if t.kind in ("word", "symbol")] != [*words]:
            return False
        self.at += len(words)
        return True

    def need(self, word: str) -> None:
        if not self.takes(word):
            raise self.wrong(repr(word))

    def condition(self) -> Condition:
        found = [self.conjunction()]
        while self.takes("or"):
            found.append(self.conjunction())
        return _joined(found, either=True)

    def conjunction(self) -> Condition:
        found = [self.negation()]
        while self.takes("and"):
            found.append(self.negation())
        return _joined(found, either=False)

    def negation(self) -> Condition:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise UserError(f"the filter is nested deeper than {MAX_DEPTH} levels")
        if self.takes("not"):
            found: Condition = Not(self.negation())
        elif self.takes("("):
            found = self.condition()
            self.need(")")
        else:
            found = self.test()
        self.depth -= 1
        return found

    def test(self) -> Condition:
        column, kind = self.column()
        if self.takes("is"):
            negated = self.takes("not")
            self.need("null")
            return Not(IsNull(column)) if negated else IsNull(column)
        negated = self.takes("not")
        found = self.set_test(column, kind)
        if found is None:
            symbol = self.next.text.replace("<>", "!=")
            if negated or symbol not in COMPARE or self.next.kind != "symbol":
                raise self.wrong("=, !=, <, <=, >, >=, in, between, like, contains or is null")
            self.at += 1
            found = Compare(column, symbol, self.literal(column, kind))
        return Not(found) if negated else found

    def set_test(self, column: str, kind: pa.DataType) -> Condition | None:
        if self.takes("in"):
            self.need("(")
            values = [self.literal(column, kind)]
            while self.takes(","):
                values.append(self.literal(column, kind))
            self.need(")")
            return _joined([Compare(column, "=", value) for value in values], either=True)
        if self.takes("between"):
            low = self.literal(column, kind)
            self.need("and")
            high = self.literal(column, kind)
            return Both(Compare(column, ">=", low), Compare(column, "<=", high))
        if self.takes("like"):
            if not pa.types.is_string(kind):
                raise UserError(f"filter: {column} is {kind}, but `like` needs a string column")
            return Like(column, str(self.literal(column, kind)))
        if self.takes("contains"):
            if not pa.types.is_list(kind):
                raise UserError(f"filter: {column} is {kind}, not a list; use `=` or `like`")
            return Contains(column, self.literal(column, kind.value_type))
        return None

    def column(self) -> tuple[str, pa.DataType]:
        if self.next.kind not in ("word", "quoted"):
            raise self.wrong("a column")
        name = self.next.text.replace('""', '"')
        if name not in self.schema.names:
            known = ", ".join(self.schema.names) or "none, the catalogue has no attributes"
            raise UserError(f"filter: unknown attribute {name}; choose from {known}")
        self.at += 1
        return name, self.schema.field(name).type

    def literal(self, column: str, kind: pa.DataType) -> Literal:
        token = self.next
        value: Literal | None = None
        if token.kind == "string" and pa.types.is_string(kind):
            value = token.text.replace("''", "'")
        elif token.kind == "number" and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            value = _number(token.text)
            if pa.types.is_floating(kind):
                value = float(value)
        elif token.text.lower() in ("true", "false") and pa.types.is_boolean(kind):
            value = token.text.lower() == "true"
        if value is None:
            raise self.wrong(f"a value for {column}, {_described(kind)}")
        self.at += 1
        return value


def _described(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return "a list: use `contains`"
    if pa.types.is_string(kind):
        return "a string in single quotes"
    return "true or false" if pa.types.is_boolean(kind) else "a number"


def _number(text: str) -> int | float:
    if re.fullmatch(rf"[+-]?\d{{1,{MAX_DIGITS}}}", text):
        return int(text)
    if math.isinf(number := float(text)):
        raise UserError(f"filter: the number {text[:20]} is too large; use a smaller one")
    return number


def _joined(conditions: Sequence[Condition], either: bool) -> Condition:
    """Join by `or` if `either`, else by `and`, as a balanced tree: long chains remain shallow."""
    if len(conditions) == 1:
        return conditions[0]
    half = len(conditions) // 2
    left, right = (_joined(own, either) for own in (conditions[:half], conditions[half:]))
    return Both(left, right, either)


def sql_literal(value: Literal) -> str:
    """A value as an SQL literal."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)


def _re2(character: str) -> str:
    """A regular expression that matches only this character."""
    return character if character.isalnum() else f"\\x{{{ord(character):x}}}"
