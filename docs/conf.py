"""The documentation as a site that opens from the disk, by Sphinx: `make docs`.

The first page is the README; that of the parameters comes from the models in `rau/params.py` and
the comments in `params.yaml`, so that it is never stale.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from rau.params import Params  # noqa: E402

project = "rau"
html_title = "rau"
copyright = "the rau authors, MIT licence"
extensions = ["myst_parser"]
exclude_patterns = ["_static"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
myst_heading_anchors = 4
# The README's sections are of one level below its title, which the site repeats.
suppress_warnings = ["myst.header"]

# Links of the README, and what they are on the site.
LINKS = {
    "](docs/": "](",
    "](params.yaml)": "](parameters.md)",
    "[`CITATION.cff`](CITATION.cff)": "`CITATION.cff`",
    "[CONTRIBUTING.md](CONTRIBUTING.md)": "`CONTRIBUTING.md`",
    "[CHANGELOG.md](CHANGELOG.md)": "`CHANGELOG.md`",
}
LINE = re.compile(r"(?P<indent> *)(?P<name>\w+):(?P<value>[^#]*)(#\s*(?P<comment>.*))?")


def setup(app: Sphinx) -> None:
    """Sphinx calls it."""
    app.connect("source-read", read)


def read(app: Sphinx, page: str, source: list[str]) -> None:
    """Fill the pages that come from the project; the README is the first page for all others."""
    if page == "index":
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        for written, there in LINKS.items():
            readme = readme.replace(written, there)
        source[0] = readme + "\n" + source[0]
    if page.startswith("findings/"):
        # Reached from the table of answers; the menu has no room for all of them.
        source[0] = f"---\norphan: true\n---\n\n{source[0]}"
    if page == "parameters":
        source[0] += "\n" + parameters((ROOT / "params.yaml").read_text(encoding="utf-8"))
    source[0] = source[0].replace("](../README.md", "](index.md")


def parameters(text: str) -> str:
    """The tables of all parameters.

    Args:
        text: of `params.yaml`, whose comments say what each does.
    """
    comments = dict(_comments(text))
    schema = Params.model_json_schema()
    pages = []
    for section, reference in schema["properties"].items():
        lines = [f"## {section}", "", comments.get(section, ""), ""]
        lines += ["| parameter | default | allowed | |", "|---|---|---|---|"]
        for name, own in _rows(section, reference, schema["$defs"]):
            default = json.dumps(own["default"]).strip('"') if "default" in own else ""
            cells = (f"`{name}`", f"`{default}`", _allowed(own), comments.get(name, ""))
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        pages.append("\n".join(lines))
    return "\n\n".join(pages)


def _comments(text: str) -> Iterator[tuple[str, str]]:
    """The comment of each line that has one, by dotted name."""
    above: list[str] = []
    for line in text.splitlines():
        if found := LINE.fullmatch(line):
            above = [*above[: len(found["indent"]) // 2], found["name"]]
            if found["comment"]:
                yield ".".join(above), found["comment"].strip()


def _rows(
    prefix: str, own: Mapping[str, Any], shared: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and schema of every value below a section."""
    name = own.get("$ref", "").removeprefix("#/$defs/")
    if name not in shared or "properties" not in shared[name]:
        yield prefix, own
        return
    for key, value in shared[name]["properties"].items():
        yield from _rows(f"{prefix}.{key}", value, shared)


def _allowed(own: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    if "anyOf" in own:
        return " or ".join(_allowed(one) for one in own["anyOf"])
    if "enum" in own or "const" in own:
        return ", ".join(f"`{value}`" for value in own.get("enum", [own.get("const")]))
    if own.get("type") == "array":
        return f"a list of {_allowed(own['items'])}"
    if "$ref" in own:
        return "see the comment"
    words = {"integer": "whole number", "number": "number", "string": "text", "null": "`null`"}
    kind = words.get(own.get("type", ""), "`true` or `false`")
    limits = {
        "minimum": "at least {}",
        "exclusiveMinimum": "above {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "below {}",
    }
    bounds = [form.format(f"{own[key]:,}") for key, form in limits.items() if key in own]
    return ", ".join([kind, *bounds])
