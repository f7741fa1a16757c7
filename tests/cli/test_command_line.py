"""A command line that is not whole or not right is one line that says what of it is wrong."""

from pathlib import Path

import pytest

from tests.project import command


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("search", "--index", "i"), "Missing argument '[IMAGE]… [CAPTION]'; see --help"),
        (("search", "a"), "Missing option '--index'; see --help"),
        (("index", "empty"), "Missing option '--index'; see --help"),
        (("export",), "Missing option '--index'; see --help"),
        (("compare", "a"), "Missing argument 'b'; see --help"),
        (("search", "a", "--index", "i", "-k", "0"), "Invalid value for '-k': Input should be"),
        (("search", "a", "--index", "i", "--image-weight", "nan"), "'--image-weight': Input"),
        (("serve", "--index", "i", "--port", "99999"), "Invalid value for '--port': Input"),
        (("serve", "--index", "i", "--nothing"), "No such option: --nothing"),
        (("serve", "--index", "i", "--device", "banana"), "--device=banana is not on this machine"),
        (("search", "a", "--index", "i", "--device", "banana"), "--device=banana is not on"),
        (("search", "a", "--index", "i"), "i/index.json: content: Invalid JSON"),
        (("example", "i/index.json"), "i/index.json is a file and not a folder; name another"),
        (("nothing",), "No such command 'nothing'; see --help"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "i").mkdir()
    (tmp_path / "i/index.json").write_text("{")
    (line,) = command(tmp_path, *arguments, code=1).splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_without_arguments_the_help_is_all(tmp_path: Path) -> None:
    printed = command(tmp_path, code=2)
    assert "Usage: " in printed
    assert "error" not in printed
