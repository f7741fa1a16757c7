"""Plain YAML, as in parameter files: no aliases, no tags that run code, bounded depth."""

import re
import reprlib
from typing import Any

import yaml

from rau.errors import UserError

MAX_DEPTH = 16


# Unquoted scalars that are not strings in YAML 1.2, which DVC writes. In PyYAML's 1.1, `1e-05` is a
# string and `yes` is not. The first character narrows the search; integers precede floats.
RESOLVERS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)|0o[0-7]+|0x[0-9a-fA-F]+", [*"-+0123456789"]),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*|(?=[eE])))(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        [*"-+.0123456789"],
    ),
)


class _PlainLoader(yaml.SafeLoader):
    """Loader of YAML 1.2 of bounded depth, without aliases or duplicate keys."""

    depth = 0
    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's; filled below

    def compose_node(self, parent: Any, index: Any) -> Any:
        problem = "too deeply nested" if self.depth == MAX_DEPTH else ""
        if self.check_event(yaml.AliasEvent):
            problem = "an alias; write the value out"
        if problem:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                raise yaml.MarkedYAMLError(
                    problem=f"{reprlib.repr(key)} is a duplicate key",
                    problem_mark=node.value[place][0].start_mark,
                )
        return super().construct_mapping(node, deep)


for _kind, _pattern, _first in RESOLVERS:
    _PlainLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(f"(?:{_pattern})$"), _first
    )


def parse(content: bytes, what: str) -> dict[str, Any]:
    """The values of a parameter file, unchecked.

    Args:
        what: the file's name, for error messages.

    Raises:
        UserError: when the content is not plain YAML, or not a mapping.
    """
    try:
        values = yaml.load(content, _PlainLoader)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:
        # PyYAML has no error of its own for `!!bool x` or thousands of digits.
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(
            f"{what}{where} is not valid YAML: {' '.join(problem.split())[:200]}"
        ) from error
    if not isinstance(values, dict | None):
        raise UserError(f"{what} is not a mapping of sections; see the project's own params.yaml")
    return values or {}
