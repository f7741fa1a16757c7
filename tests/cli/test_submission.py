"""A submission of any program is checked against the annotations before it is sent."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import circo_data
from tests.project import command, only_line

NAMES = [f"test1-{n}-0-img0" for n in range(60)]


def write_circo(folder: Path) -> Path:
    """CIRCO's annotations in `folder`, and a submission that is complete."""
    circo_data.write_annotations(folder, images=60)
    images = sorted(map(int, circo_data.names(60)))[:50]
    path = folder / "mine.json"
    path.write_text(json.dumps({str(query): images for query in range(6)}))
    return path


def write_cirr(folder: Path) -> list[Path]:
    """CIRR's test1 in `folder`, and both files of a submission, under names of their own."""
    rows = [
        {
            "pairid": pair,
            "reference": NAMES[pair],
            "caption": "turn it",
            "img_set": {"members": NAMES[pair : pair + 6]},
        }
        for pair in range(4)
    ]
    files: dict[str, Any] = {
        "captions/cap.rc2.test1.json": rows,
        "image_splits/split.rc2.test1.json": {name: f"./test1/{name}.png" for name in NAMES},
    }
    for metric, length in (("recall", 50), ("recall_subset", 3)):
        ranked = {str(p): NAMES[p + 1 :][:length] for p in range(4)}
        files[f"{metric}-of-mine.json"] = {"version": "rc2", "metric": metric} | ranked
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    return [folder / name for name in files if name.endswith("mine.json")]


def test_complete_files_pass(tmp_path: Path) -> None:
    mine, pair = write_circo(tmp_path / "circo"), write_cirr(tmp_path / "cirr")
    asked = ("submission", str(mine), "--dataset", "circo", "--root", "circo")
    assert only_line(command(tmp_path, *asked)) == f"{mine}: complete, 6 queries of test"
    # The data set of a project is the default.
    (tmp_path / "params.yaml").write_text('dataset: {name: "cirr", root: "cirr"}')
    printed = command(tmp_path, "submission", *map(str, pair))
    assert printed.splitlines() == [f"{p}: complete, 4 queries of test1" for p in pair]


DAMAGES: list[tuple[Callable[[Any], Any], str]] = [
    (lambda d: {**d, "0": d["0"][:-1]}, "mine.json, query 0: not 50 different images"),
    (lambda d: {**d, "9": d["0"]}, "mine.json: 1 queries are missing or not of test: 9"),
    (lambda d: {**d, "0": [*d["0"][:-1], 1]}, "query 0: 1 is not among the images"),
    (lambda d: [d], "is not a JSON object"),
    (lambda d: d | {"x": "-" * 5_000_000}, "bytes; the server accepts at most 5,000,000"),
]


@pytest.mark.parametrize(("damage", "said"), DAMAGES)
def test_what_a_server_refuses_is_one_line(
    tmp_path: Path, damage: Callable[[Any], Any], said: str
) -> None:
    path = write_circo(tmp_path)
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    asked = ("submission", "mine.json", "--dataset", "circo", "--root", ".")
    line = only_line(command(tmp_path, *asked, code=1))
    assert line.startswith("error: ")
    assert said in line


def test_what_is_missing_is_one_line(tmp_path: Path) -> None:
    mine = write_circo(tmp_path)
    for arguments, said in (
        (("mine.json",), "no server evaluates a split of garments; add --dataset"),
        (("no.json", "--dataset", "circo", "--root", "."), "no.json is missing"),
        (("mine.json", "--dataset", "cirr", "--root", "."), "contains no captions/cap.rc2"),
        (("mine.json", "--dataset", "circo"), "contains no annotations/val.json"),
    ):
        assert said in only_line(command(tmp_path, "submission", *arguments, code=1))
    (tmp_path / "annotations/test.json").unlink()
    asked = ("submission", str(mine), "--dataset", "circo", "--root", ".")
    assert "this copy has no queries of test" in only_line(command(tmp_path, *asked, code=1))
