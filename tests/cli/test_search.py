"""`rau index` and `rau search` on a project's val gallery and on a folder of one's own."""

import json
import signal
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from PIL import Image

import rau
from rau.cli import search
from rau.errors import UserError
from rau.search.index import Index
from rau.search.model import Query
from rau.search.searcher import Searcher
from tests.places import ROOT
from tests.project import call, command, error_line, start
from tests.search.synthetic import CPU, draw, draw_folder


@pytest.fixture(name="index", scope="module")
def _index(built_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of the built project's val gallery."""
    folder = tmp_path_factory.mktemp("index") / "val"
    printed = command(built_project, "index", "--dataset", "--index", str(folder))
    assert "120 images; 120 added" in printed
    return folder


def test_a_file_is_known_by_its_suffix_in_either_case() -> None:
    searcher = cast(Searcher, SimpleNamespace(index=SimpleNamespace(place={"a": 0})))
    what = ["a", "mine.JPG", "is red", "other.jpeg"]
    assert search._told_apart(what, searcher) == (
        ["a", Path("mine.JPG"), Path("other.jpeg")],
        "is red",
    )
    with pytest.raises(UserError, match="'b' and 'is red' are neither"):
        search._told_apart(["b", "is red"], searcher)


def val_queries(project: Path, category: str) -> list[dict[str, Any]]:
    """The val rankings of the head under the protocol `original`."""
    table = pq.read_table(project / "data/rankings/garments.parquet").to_pylist()
    return [
        row
        for row in table
        if (row["method"], row["protocol"], row["category"]) == ("RAU head", "original", category)
    ]


def test_search_finds_what_evaluation_found(built_project: Path, index: Path) -> None:
    """Every val query of a category, asked through the index, has the list of the rankings."""
    searcher = Searcher.open(index, CPU)
    queries = {
        row["query_id"]: row
        for row in pq.read_table(built_project / "data/tables/garments/queries.parquet").to_pylist()
    }
    rows = val_queries(built_project, "dress")
    assert len(rows) > 20
    for row in rows:
        captions = queries[row["query_id"]]["captions"]
        reference = searcher.reference(str(row["reference_id"]))
        vector = searcher.model.encode_query(reference, captions).numpy()
        (found,) = searcher.index.exact.search(vector, len(searcher.index))
        kept = [
            (name, score)
            for name, score in zip(found.ids, found.scores, strict=True)
            if searcher.index.attributes(name)["category"] == "dress"
        ]
        scores = dict(kept)
        # float16 vectors: scores agree to 1e-3, and places up to scores that near.
        for (_, ours), theirs, score in zip(kept, row["top"], row["scores"], strict=False):
            assert ours == pytest.approx(score, abs=1e-3)
            assert scores[theirs] == pytest.approx(score, abs=1e-3)


def test_search_prints_the_best_and_draws_a_strip(
    built_project: Path, index: Path, tmp_path: Path
) -> None:
    reference = str(val_queries(built_project, "dress")[0]["reference_id"])
    strip = tmp_path / "strip.jpg"
    asked = ("search", "--index", str(index), reference, "is red", "-k", "3")
    printed = command(built_project, *asked, "--where", "category = 'dress'", "--strip", str(strip))
    lines = [line.split() for line in printed.splitlines()]
    assert [line[0] for line in lines[:3]] == ["1", "2", "3"]
    assert {line[3] for line in lines[:3]} == {"category=dress"}
    assert reference not in {line[2] for line in lines[:3]}
    assert Image.open(strip).width > 500
    found = json.loads(command(built_project, *asked, "--json"))
    searcher = Searcher.open(index, CPU)
    query = Query([searcher.reference(reference)], "is red")
    answer = searcher.search(query, 3, references=[reference])
    assert [hit["id"] for hit in found["hits"]] == [hit.id for hit in answer.hits]
    assert found["hits"][0]["score"] == pytest.approx(answer.hits[0].score)
    # The encoder of a few steps tells few pictures apart: the whole gallery is looked at.
    asked = (*asked[:4], "--json", "-k", "120")
    for more, there in (((), False), (("--keep-references",), True)):
        hits = json.loads(command(built_project, *asked, *more))["hits"]
        assert (reference in {hit["id"] for hit in hits}) is there
    without = json.loads(command(built_project, *asked, "is red", "--without", "stripes"))["hits"]
    assert {hit["id"] for hit in without} == {hit["id"] for hit in hits} - {reference}


def test_a_search_looks_where_evaluation_looked(built_project: Path, index: Path) -> None:
    """The hits of every val query are its protocol's gallery but for the reference."""
    searcher = Searcher.open(index, CPU)
    for category in ("dress", "shirt"):
        row = val_queries(built_project, category)[0]
        answer = searcher.ask([row["reference_id"]], "is red", k=120)
        own = {
            n for n in searcher.index.place if searcher.index.attributes(n)["category"] == category
        }
        assert {hit.id for hit in answer.hits} == own - {row["reference_id"]}
        assert {*row["top"]} <= own


def test_a_plain_query_has_the_confidence_that_training_fitted(
    built_project: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an index of the val gallery, and as `rau.load` opens it."""
    reference = str(val_queries(built_project, "dress")[0]["reference_id"])
    asked = ("search", "--index", str(index), reference, "is red")
    looked, sure = command(built_project, *asked).splitlines()[-2:]
    assert looked == "searched 39 images of category dress; --any-category searches all 119"
    assert sure.startswith("probability that a correct image is among the first 1: ")
    looked, sure = command(built_project, *asked, "--any-category").splitlines()[-2:]
    assert looked == "searched 119 images"
    assert "it was only validated for searches within one category" in sure
    monkeypatch.chdir(built_project)
    found = rau.load().search(reference, "is red")
    assert found.confidence is not None
    assert found.searched.category == "dress"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere.jpg", "is red"), "nowhere.jpg is missing"),
        (("is red", "is blue"), "only one caption"),
        (("is red", "--where", "cost < 3"), "unknown attribute cost"),
        (("is red", "--strip", "strip.png"), "use the suffix .jpg"),
        (("", "--without", "stripes"), "the query is empty"),
        (("is red", "-k", "0"), "greater than or equal to 1"),
    ],
)
def test_a_wrong_search_is_one_line(
    built_project: Path, index: Path, arguments: tuple[str, ...], said: str
) -> None:
    printed = command(built_project, "search", "--index", str(index), *arguments, code=1)
    assert said in error_line(printed)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give either a FOLDER"),
        (("pipeline",), "has no images"),
        (("nowhere",), "not a folder"),
        (("--dataset", "--model", "nothing"), "nothing: no project's folder"),
        (("--dataset", "--model", "0" * 32), "no MLflow run"),
    ],
)
def test_a_wrong_index_is_one_line(
    built_project: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    printed = command(built_project, "index", *arguments, "--index", str(tmp_path / "i"), code=1)
    assert said in error_line(printed)
    assert not (tmp_path / "i/index.json").exists()


def test_a_model_is_the_workspace_a_revision_or_a_run(
    built_project: Path, index: Path, tmp_path: Path
) -> None:
    expected = Index.open(index).manifest.model
    client = MlflowClient(f"sqlite:///{built_project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("rau")
    assert experiment is not None
    run = client.search_runs([experiment.experiment_id])[0].info.run_id
    for name in (str(built_project), "HEAD", run):
        folder = tmp_path / name.replace("/", "_")
        command(built_project, "index", "--dataset", "--index", str(folder), "--model", name)
        assert Index.open(folder).manifest.model == expected


def killed(process: BaseProcess, folder: Path, event: str, known: set[Path]) -> int | None:
    """Kill a process as soon as a folder has another file of a pattern; returns its exit code."""
    while process.is_alive() and {*folder.glob(event)} <= known:
        time.sleep(0.001)
    process.kill()
    process.join()
    return process.exitcode


@pytest.mark.parametrize("event", ["parts/*/*.arrow", "segments/*", "segments/*/items.parquet"])
def test_a_killed_build_leaves_an_index_or_none_and_goes_on(
    built_project: Path, tmp_path: Path, event: str
) -> None:
    """It is killed when a part is written, a segment is begun, and its first pictures are, in a
    build from nothing and in one over an index."""
    shop, folder = tmp_path / "shop", tmp_path / "i"
    names = {*draw_folder(shop, 12)}
    asked = ("index", str(shop), "--index", str(folder))
    before: set[str] = set()
    for added in ((), ("b/new.png", "c.png")):
        for number, name in enumerate(added):
            draw(shop / name, 100 + number)
        names |= {*added}
        known = {*folder.glob(event)}
        process = start(built_project, "rau", *asked)
        ended = killed(process, folder, event, known)
        assert ended == -signal.SIGKILL, "it was done before it could be killed"
        there = {*Index.open(folder).place} if (folder / "index.json").exists() else set()
        assert there in (before, names)
        assert "0 encoded" in command(built_project, *asked)
        before = {*Index.open(folder).place}
        assert before == names


def test_the_commands_are_quick_to_read() -> None:
    heavy = {"torch", "pandas", "mlflow", "open_clip", "matplotlib", "lancedb"}
    script = (
        "import sys; from pathlib import Path; from tests.project import command\n"
        "for name in ('index', 'search'):\n"
        "    assert 'Usage' in command(Path(), name, '--help')\n"
        "print(*sys.modules)"
    )
    loaded = set(call(ROOT, sys.executable, "-c", script).split())
    assert not heavy & loaded
