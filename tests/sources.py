"""What the project's modules import, read from their text."""

import ast
from pathlib import Path

from tests.places import ROOT


def imported(path: Path) -> set[Path]:
    """Files of the project that a module imports anywhere; a package as its `__init__.py`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            place = ROOT / name.replace(".", "/")
            found |= {p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file()}
    return found


def closure(start: Path, stop: frozenset[str] = frozenset()) -> set[str]:
    """A module and all that it imports, relative to the root; `stop` are not looked into."""
    waiting, seen = [start], set()
    while waiting:
        path = waiting.pop()
        name = path.relative_to(ROOT).as_posix()
        if name in seen:
            continue
        seen.add(name)
        if name not in stop:
            waiting += imported(path)
    return seen
