"""Pages of the site that are made from the project, so that they are never stale: a hook of mkdocs.

`index.md` is the README, `parameters.md` comes from the models in `rau/params.py` and the comments
in `params.yaml`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from rau.params import Params

ROOT = Path(__file__).parents[1]
LINE = re.compile(r"(?P<indent> *)(?P<name>\w+):(?P<value>[^#]*)(#\s*(?P<comment>.*))?")
# Links of the README, and what they are on the site.
LINKS = {
    "](docs/": "](",
    "](params.yaml)": "](parameters.md)",
    "[`CITATION.cff`](CITATION.cff)": "`CITATION.cff`",
}
INTRODUCTION = """# Parameters

Every parameter of `params.yaml`, with its default, what it may be and what it does.
`dvc exp run -S name=value` sets one for an experiment. An unknown name or a value out of range
stops before any work.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add both pages."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for written, there in LINKS.items():
        readme = readme.replace(written, there)
    own = {
        "index.md": readme,
        "parameters.md": parameters((ROOT / "params.yaml").read_text(encoding="utf-8")),
    }
    for name, content in own.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The README is the first page."""
    return markdown.replace("](../README.md", "](index.md")


def parameters(text: str) -> str:
    """The page of all parameters.

    Args:
        text: of `params.yaml`, whose comments say what each does.
    """
    comments = dict(_comments(text))
    schema = Params.model_json_schema()
    pages = [INTRODUCTION]
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
