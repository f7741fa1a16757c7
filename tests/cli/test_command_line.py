"""A command line that is not whole or not right is one line that says what of it is wrong."""

import io
import json
import sys
from pathlib import Path

import pytest

from rau import console
from rau.cli.search import _as_json, _as_table
from rau.search.scope import Searched
from rau.search.searcher import Answer, Hit
from tests import catalogue
from tests.project import command


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("search", "--index", "i"), "Missing argument 'IMAGE|CAPTION'; see --help"),
        (("search", "a"), "Missing option '--index'; see --help"),
        (("index", "empty"), "Missing option '--index'; see --help"),
        (("export",), "Missing option '--index'; see --help"),
        (("compare", "a"), "Missing argument 'b'; see --help"),
        (("search", "a", "--index", "i", "-k", "0"), "Invalid value for '-k': Input should be"),
        (("search", "a", "--index", "i", "--image-weight", "nan"), "'--image-weight': Input"),
        (("serve", "--index", "i", "--port", "99999"), "Invalid value for '--port': Input"),
        (("serve", "--index", "i", "--nothing"), "No such option: --nothing"),
        (
            ("serve", "--index", "i", "--device", "banana"),
            "--device=banana is not available on this machine",
        ),
        (("search", "a", "--index", "i", "--device", "banana"), "--device=banana is not available"),
        (("search", "a", "--index", "i"), "i/index.json: content: Invalid JSON"),
        (("example", "i/index.json"), "i/index.json is a file, not a folder; choose another"),
        (("nothing",), "No such command 'nothing'; see --help"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "i").mkdir()
    (tmp_path / "i/index.json").write_text("{")
    (line,) = command(tmp_path, *arguments, code=1).splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_what_data_say_cannot_steer_a_terminal() -> None:
    hit = Hit("a\x1b[2J\nb\u3000c", 0.5, "p", {"tag": "\x9b31m", "\r": ["\x07", "\udcff"]})
    searched = Searched("dress\x1b[2J", 999, 2999)
    table = _as_table(Answer([hit], None, "fitted on \x1b]0;x", searched))
    assert table.split("\n") == [
        "   1  0.5000  a?[2J b c  tag=?31m   =?|?",
        "searched 999 images of category dress?[2J; --any-category searches all 2,999",
        "confidence unavailable: fitted on ?]0;x",
    ]


def test_letters_that_the_output_does_not_have_are_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = Answer([Hit("Käse 雪", 0.5, "p", {})], None, None, Searched(None, 9, 9))

    def main() -> None:
        print(_as_table(answer).splitlines()[0])
        print(json.loads(_as_json(answer, sys.stdout.encoding))["hits"][0]["id"] == "Käse 雪")
        print(_as_json(answer, sys.stdout.encoding).splitlines()[3].strip())

    monkeypatch.setattr(sys, "argv", ["rau"])
    for encoding, name, quoted in (
        ("ascii", "K?se ?", r"K\u00e4se \u96ea"),
        ("latin-1", "Käse ?", r"K\u00e4se \u96ea"),
        ("utf-8", "Käse 雪", "Käse 雪"),
    ):
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
        console.run(console.command(main))
        sys.stdout.flush()
        lines = written.getvalue().decode(encoding).splitlines()
        assert lines == [f"   1  0.5000  {name}", "True", f'"id": "{quoted}",']


def test_an_index_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    """The model is not there either: it is asked for later."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "shop")
    for place in ("shop", "shop/index", "link/index", "other/../shop/index"):
        (line,) = command(tmp_path, "index", "shop", "--index", place, code=1).splitlines()
        assert f"--index {place} is inside shop" in line
    asked = ("index", "shop", "--index", "shop-index", "--calibrate")
    (line,) = command(tmp_path, *asked, code=1).splitlines()
    assert "--calibrate: shop has no products.csv" in line
    rows = catalogue.write(tmp_path / "shop", 40)
    (line,) = command(tmp_path, *asked, code=1).splitlines()
    assert "queries outside the train split are known; calibration needs at least 100" in line
    assert len(rows) == 40
    assert not (tmp_path / "shop-index").exists()


def test_without_arguments_the_help_is_all(tmp_path: Path) -> None:
    printed = command(tmp_path, code=2)
    assert "Usage: " in printed
    assert "error" not in printed
