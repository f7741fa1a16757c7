"""The documentation is whole: it builds, its links lead somewhere, its messages are the code's."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from rau.params import Params
from rau.studies import findings
from tests.places import ROOT

# Messages of others, which no test can look up.
FOREIGN = ("No module named", "command not found", "torchvision::nms")
ROW = re.compile(r"^\| (?P<message>`.*?) \| ")


def sources() -> str:
    """All Python of the project, with string literals that stand one after another joined."""
    files = [path for name in ("rau", "pipeline") for path in (ROOT / name).rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(files))
    return re.sub(r"[\"']\s*\n\s*f?[\"']", "", text).replace("`", "")


def listed() -> list[str]:
    """Every message that the page on troubleshooting lists, in its fixed pieces."""
    found: list[str] = []
    for line in (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8").splitlines():
        if match := ROW.match(line):
            found += re.findall(r"`([^`]+)`", match["message"])
    return [message for message in found if not any(other in message for other in FOREIGN)]


@pytest.fixture(name="code", scope="module")
def _code() -> str:
    return sources()


@pytest.mark.parametrize("message", listed())
def test_a_listed_message_is_one_of_the_code(message: str, code: str) -> None:
    pieces = [piece.strip(" (),;") for piece in message.split("…")]
    assert [piece for piece in pieces if piece and piece not in code] == []


def test_the_list_of_messages_is_read() -> None:
    assert len(listed()) > 10


NUMBER = "[+\N{MINUS SIGN}]?" r"\d+\.\d+"
DIFFERENCE = re.compile(rf"{NUMBER} \[{NUMBER}, {NUMBER}\]")


def test_differences_of_the_short_answer_stand_on_a_page_of_a_study() -> None:
    page = (ROOT / "docs/findings.md").read_text(encoding="utf-8")
    short = " ".join(page.partition(findings.START)[0].split())
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    studies = [path.read_text(encoding="utf-8") for path in ROOT.glob("docs/findings/*/*.md")]
    said = DIFFERENCE.findall(short) + DIFFERENCE.findall(readme)
    assert len(said) > 2
    assert [one for one in said if not any(one in own for own in studies)] == []


@pytest.fixture(name="pages", scope="module")
def _pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("conf", ROOT / "docs/conf.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_parameter_is_on_its_page_with_a_comment(pages: ModuleType) -> None:
    page = pages.parameters((ROOT / "params.yaml").read_text(encoding="utf-8"))
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.*) \|$", page, re.MULTILINE))
    wanted = {
        f"{section}.{name}"
        for section, own in Params().model_dump().items()
        for name, value in own.items()
        if not isinstance(value, dict)
    }
    assert wanted <= {*rows}
    assert rows["ua.theta"].startswith("`0.8` | number, at least -1")
    assert "cosine threshold of CSU" in rows["ua.theta"]
    assert "`mixed`, `category`" in rows["train.batches"]
    assert "or `null`" in rows["finetune.micro_batch"]


def test_the_site_builds_and_its_links_lead_somewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "docs", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    start = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "Composed image retrieval" in start
    parameters = (tmp_path / "parameters.html").read_text(encoding="utf-8")
    assert all(f'<section id="{section}">' in parameters for section in Params.model_fields)
    # It opens from the disk, without a network.
    loaded = re.findall(r"<(?:script|link|img)[^>]* (?:src|href)=\"([^\"]+)\"", start)
    assert loaded
    assert not [one for one in loaded if "//" in one]
