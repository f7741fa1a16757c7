"""Commands that the documentation names are there: options, parameters, stages, studies, modules.

That they do what it says, tests of their own hold: of the catalogue's page, the Python page, the
example of a method, and the pipeline.
"""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import typer
import yaml

from pipeline.study import NAMES
from rau.cli.app import app
from rau.params import Params
from tests.places import ROOT

# Of the page on extending, which adds names of its own, a test runs the code.
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.stem != "extending"),
]
TOOLS = ("dvc", "make", "python", "rau", "ray", "torchrun")
FENCE = re.compile(r"```\w*\n(.*?)```", re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
STUDIES = yaml.safe_load((ROOT / "pipeline/dvc.yaml").read_text())["stages"]
TARGETS = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


def commands() -> Iterator[str]:
    """Every command of the pages, in blocks and between backticks, without its comment."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = [block.replace("\\\n", " ") for block in FENCE.findall(text)]
        lines = [line for block in blocks for line in block.splitlines()]
        for line in [*lines, *SPAN.findall(FENCE.sub("", text))]:
            for part in re.split(r"&&|#|;|\|", line):
                words = part.split()
                if len(words) > 1 and words[0] in TOOLS and "…" not in part:
                    yield " ".join(words)


def words_of(command: str) -> list[str]:
    """Its words; those of a command that goes on in the next lines as far as they are quoted."""
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def is_placeholder(word: str) -> bool:
    """Whether it stands for what the user has: FOLDER, <stage>, name=value."""
    return word.isupper() or word.startswith("<") or word == "name=value"


def check_parameters(assignments: list[str]) -> None:
    """Parameters that there are, with the first of the values, which they may have together."""
    own: dict[str, Any] = Params().model_dump()
    for assignment in assignments:
        name, found, values = assignment.partition("=")
        section, _, key = name.partition(".")
        assert found, assignment
        assert key in own.get(section, {}), assignment
        value = values if values.startswith(("[", "{")) else values.split(",")[0]
        if value and not is_placeholder(value):
            own[section][key] = yaml.safe_load(value)
    Params.model_validate(own)


def check_options(words: list[str], commands: dict[str, Any]) -> None:
    """One of these commands and its options."""
    if words[0].startswith("-"):
        return
    assert words[0] in commands, words
    known = {name for one in commands[words[0]].params for name in (*one.opts, *one.secondary_opts)}
    used = {word.split("=")[0] for word in words[1:] if word.startswith("-")}
    assert used <= known | {"--help"}, words


def check_module(words: list[str]) -> None:
    """A module that can be run; of the studies also their names."""
    name, *rest = words
    if name.split(".")[0] not in ("pipeline", "rau", "bench", "tests"):
        return
    assert importlib.util.find_spec(name) is not None, words
    if name == "pipeline.study":
        named = {word for word in rest if not word.startswith("-") and not is_placeholder(word)}
        assert named <= set(NAMES), words
    if name == "pipeline.recipe":
        assert (ROOT / rest[0]).exists(), words


def check_dvc(words: list[str]) -> None:
    """Parameters and stages."""
    given = [value for option, value in pairwise(words) if option == "-S"]
    check_parameters([value for value in given if not is_placeholder(value)])
    if words[0] == "repro":
        for word in words[1:]:
            file, _, stage = word.rpartition(":")
            if not word.startswith("-") and not is_placeholder(word):
                assert stage in (STUDIES if file else STAGES), words


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_a_command_of_the_documentation_is_there(command: str) -> None:
    tool, *words = words_of(command)
    if tool == "make":
        assert words[0] in TARGETS, command
    elif tool == "rau":
        check_options(words, COMMANDS)
    elif tool == "ray":
        scripts = pytest.importorskip("ray.scripts.scripts")
        check_options(words, scripts.cli.commands)
    elif tool == "dvc":
        check_dvc(words)
    elif "-m" in words:
        check_module(words[words.index("-m") + 1 :])


def test_a_command_that_is_not_there_is_noticed() -> None:
    for wrong in ("-S ua.thetas=0.5", "-S ua.theta=7", "repro trains"):
        with pytest.raises((AssertionError, ValueError)):
            check_dvc(wrong.split())
    for words in (["serv"], ["search", "--indexes", "x"]):
        with pytest.raises(AssertionError):
            check_options(words, COMMANDS)
    for words in (["pipeline.trains"], ["pipeline.study", "thetas"]):
        with pytest.raises(AssertionError):
            check_module(words)
    assert len(set(commands())) > 40
