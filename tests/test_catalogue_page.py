"""docs/catalogue.md: the commands of the page, run in their order on a small shop."""

import json
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from rau.schemas import read_queries
from rau.service.feedback import Feedback
from rau.service.live import Live
from tests.places import ROOT
from tests.project import command, stage
from tests.search.synthetic import CPU
from tests.service.synthetic import served

BLOCK = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# tests/search/test_exported.py starts MLflow's server.
ELSEWHERE = "### As an MLflow model"
SMALL: dict[str, dict[str, Any]] = {
    "dataset": {
        "garments": {"seed": 0, "train_images": 120, "val_images": 60, "image_size": 32},
        "catalogue": {"train_queries": 150, "val_queries": 150},
    },
    "finetune": {"towers": "none"},
    "train": {"epochs": 2, "batch_size": 64, "threads": 1},
    "evaluate": {"bootstrap": 20},
}
LEARN = ("watch", "download", "tables", "finetune", "features", "train")
MEASURE = ("deterministic", "evaluate", "report")


def commands() -> Iterator[list[str]]:
    """The page's commands as shells split them."""
    page = (ROOT / "docs/catalogue.md").read_text().split(ELSEWHERE)[0]
    for block in BLOCK.findall(page):
        yield from map(shlex.split, block.replace("\\\n", "").splitlines())


class Walk:
    """Somebody who follows the page; what each command printed, by its first words."""

    def __init__(self, folder: Path, running: ExitStack) -> None:
        self.folder, self.running = folder, running
        self.address = self.upload = ""
        self.live: Live | None = None
        self.printed: dict[str, list[str]] = {}

    def run(self, arguments: Sequence[str]) -> None:
        """Run a command, in this process where it is ours."""
        match arguments:
            case ["rau", "serve", "--index", index, "--feedback", feedback]:
                kept = Feedback(self.folder / feedback)
                self.live = Live(self.folder / index, CPU)
                self.address = self.running.enter_context(served(self.live, feedback=kept))
            case ["rau", name, *options]:
                self.note(name, command(self.folder, name, *options))
                self.wait_for_the_service()
            case ["dvc", "exp", "run", *changes]:
                self.change([one for one in changes if one != "-S"])
                self.stages(*LEARN, *MEASURE)
            case ["dvc", "repro"]:
                self.stages(*LEARN)
            case ["curl", *options]:
                self.curl([*options])
            case _:
                raise AssertionError(f"nobody knows how to run {arguments}")

    def wait_for_the_service(self) -> None:
        """Until a service that runs has taken over the index: it drops pictures sent before."""
        deadline = time.monotonic() + 60
        while self.live is not None and self.live.now.searcher.stale:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def note(self, name: str, printed: str) -> None:
        """Keep what a command printed."""
        self.printed.setdefault(name, []).append(printed)

    def change(self, changes: Sequence[str]) -> None:
        """Set parameters as `-S` does."""
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for one in changes:
            name, value = one.split("=")
            section, key = name.split(".")
            params[section][key] = value
        path.write_text(yaml.safe_dump(params))

    def stages(self, *names: str) -> None:
        """Run stages as DVC does."""
        for name in names:
            self.note(name, stage(self.folder, name))

    def curl(self, options: list[str]) -> None:
        """Ask the service; a picture that was sent is known by its id from then on."""
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        said = [
            one.replace("http://127.0.0.1:8000", self.address).replace("<id>", self.upload)
            for one in options
        ]
        done = subprocess.run(
            ["curl", "-sS", "--fail-with-body", *said],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (said, done.stdout, done.stderr)
        if "/api/uploads" in said[0]:
            self.upload = json.loads(done.stdout)["id"]
        self.note("curl", done.stdout)


def test_the_walk(tmp_path: Path, encoder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rau.cpu.cores", lambda: 1)
    shutil.copytree(encoder_folder, tmp_path / "data/encoder")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, values in SMALL.items():
        for name, value in values.items():
            own = params[section][name]
            params[section][name] = own | value if isinstance(own, dict) else value
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    with ExitStack() as running:
        walk = Walk(tmp_path, running)
        for arguments in commands():
            walk.run(arguments)
    printed = walk.printed
    assert "180 images" in printed["example"][0]
    assert "two changes:" in printed["triplets"][0]
    assert json.loads((tmp_path / "reports/metrics.json").read_text())["protocols"].keys() == {
        "catalogue"
    }
    assert all("calibrated on" in said for said in printed["index"])
    assert "probability that a correct image is among" in printed["search"][0]
    assert (tmp_path / "strip.jpg").stat().st_size
    found = [json.loads(said) for said in printed["curl"]]
    assert found[0] == {"stored": True}
    assert [len(one["hits"]) for one in found if "hits" in one] == [10, 24]
    # What was answered is trained on.
    assert "1 queries are by people" in printed["tables"][1]
    queries = read_queries(tmp_path / "data/tables/catalogue/queries.parquet")
    assert [q["split"] for q in queries if q["captions"] == ["less formal"]] == ["train"]
