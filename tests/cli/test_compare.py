"""The command on files, on a real MLflow store and in a git and DVC repository of its own."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from PIL import Image

from rau.cli import compare
from rau.datasets.captions import all_texts
from rau.errors import UserError
from rau.evaluation import benchmark, comparison
from rau.evaluation.ranked_side import read_side, trained
from rau.evaluation.run import with_baselines
from rau.features.table import Features
from rau.models.baselines import WeightedSum
from rau.params import EvaluateParams
from rau.project import workspace
from rau.report.comparison_page import file_name
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.protocols import presets
from rau.schemas import (
    MANIFEST,
    QUERIES,
    RANKINGS,
    GalleryRow,
    QueryRow,
    write_table,
)
from rau.table_metadata import RankingsMetadata
from rau.tracking import Record, TrackingUnavailable, fetch_artifact, find_by_tag, track
from tests.places import ROOT

METHODS = ("image only", "sum", "deterministic head", "RAU head")
PARAMS = {"dataset": {"name": "garments", "root": "store"}}
RANKS = Path("data/rankings/garments.parquet")


def write_rankings(
    path: Path, shift: int, queries: int = 12, about: dict[str, str] | None = None
) -> Path:
    """Four methods, the trained head `shift` ranks behind the first place."""
    rows = [
        {
            "query_id": f"dress-val-{i}",
            "method": method,
            "protocol": "original",
            "category": "dress",
            "text": "is red",
            "reference_id": "r",
            "target_id": "t",
            "target_rank": 1 + shift if method == "RAU head" else 2 + place + i,
            "top": ["t", "r"],
            "scores": [],
        }
        for place, method in enumerate(METHODS)
        for i in range(queries)
    ]
    write_table(path, pa.Table.from_pylist(rows, schema=RANKINGS), RANKINGS, about)
    return path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with rankings and with the images of its queries."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").mkdir()
    for name in "rt":
        Image.new("RGB", (8, 8), "grey").save(tmp_path / f"store/{name}.png")
    workspace.PARAMS.write_text(yaml.safe_dump(PARAMS))
    about = {"status": "ok", "sha256": "0" * 64, "width": 8, "height": 8, "bytes": 70}
    images = [about | {"image_id": n, "path": f"{n}.png", "source": "the folder"} for n in "rt"]
    table = pa.Table.from_pylist(images, schema=MANIFEST)
    write_table(workspace.manifest("garments"), table, MANIFEST)
    query: dict[str, Any] = {"split": "val", "category": "dress", "captions": ["is red"]}
    query |= {"reference_id": "r", "target_id": "t"}
    queries = [query | {"query_id": f"dress-val-{i}"} for i in range(12)]
    table = pa.Table.from_pylist(queries, schema=QUERIES)
    write_table(workspace.table("garments", "queries"), table, QUERIES)
    write_rankings(RANKS, 0)
    return tmp_path


def run(
    a: str, b: str, method_a: str | None = None, method_b: str | None = None, changed: int = 5
) -> None:
    compare.compare(a, b, method_a, method_b, changed, resamples=100)


def written() -> list[str]:
    return sorted(path.name for path in compare.FOLDER.iterdir())


def test_two_files(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rankings(Path("other.parquet"), 8)
    run(str(RANKS), "other.parquet", changed=2)
    printed = capsys.readouterr().out
    assert "no MLflow run matches A or B; only the files were written" in printed
    assert printed.count("gained") == 2
    assert "+100.00" in printed
    (folder,) = compare.FOLDER.iterdir()
    assert {p.name for p in folder.iterdir()} == {"index.html", "differences.csv", "changes.csv"}
    page = (folder / "index.html").read_text()
    assert "A: rank of the target 1" in page
    assert page.count("data:image/jpeg;base64,") > 2 * 2
    assert not (project / "mlflow.db").exists()


def test_what_a_file_says_cannot_steer_a_terminal(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rankings(Path("other.parquet"), 8, about={"encoder": "e\x1b[2J", "coverage": "c\r\x9b"})
    run(str(RANKS), "other.parquet")
    printed = capsys.readouterr().out
    assert "encoder e?[2J; c ?" in printed
    assert not {*"\x1b\x9b\r"} & {*printed}


def test_two_methods_of_one_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(str(RANKS), str(RANKS), method_b="deterministic head")
    assert "B: data/rankings/garments.parquet, deterministic head" in capsys.readouterr().out
    with pytest.raises(UserError, match="both 'RAU head' of data/rankings"):
        run(str(RANKS), str(RANKS))


def test_what_the_files_say_of_their_runs(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = {"method": "sum", "dataset": '{"name": "garments", "copy": "built in"}'}
    about |= {"encoder": "small, 1 steps", "coverage": "2 of 2 images", "unusable": "leave_out"}
    write_rankings(RANKS, 0, about=about)
    write_rankings(Path("b.parquet"), 8, about=about | {"encoder": "large, own"})
    run(str(RANKS), "b.parquet", method_b="image only")
    printed = capsys.readouterr().out
    assert "A: data/rankings/garments.parquet, sum\n   data set garments (built in); " in printed
    assert "B: b.parquet, image only\n" in printed
    assert "encoder large, own; 2 of 2 images" in printed
    assert "A and B differ in encoder: " in printed
    (folder,) = compare.FOLDER.iterdir()
    assert "A and B differ in encoder: " in (folder / "index.html").read_text()
    write_rankings(Path("c.parquet"), 8, about=about | {"dataset": '{"name": "cirr"}'})
    with pytest.raises(UserError, match=r"of different data sets \(garments; cirr\)"):
        run(str(RANKS), "c.parquet")


@pytest.mark.parametrize("lost", ["store", "data/manifests", "data/tables"])
def test_images_that_are_away_stop_nothing(project: Path, lost: str) -> None:
    (project / lost).rename(project / "away")
    run(str(RANKS), str(RANKS), method_b="sum")
    (folder,) = compare.FOLDER.iterdir()
    page = (folder / "index.html").read_text()
    assert "the images are not on this machine" in page
    assert "data:image" not in page


def test_the_trained_head_is_found() -> None:
    plain = ["image only", "text only", "sum", "weighted sum"]
    mapped = ["image only", *(f"{name} (ridge map)" for name in plain[1:])]
    twin = "deterministic head"
    assert trained("x", [*plain, twin, "RAU head"]) == "RAU head"
    assert trained("x", [*mapped, twin, "MUR augmenter"]) == "MUR augmenter"
    assert trained("x", [*plain, twin]) == twin
    for methods in (plain, [*plain, "one", "two"]):
        with pytest.raises(UserError, match="--method-a or --method-b"):
            trained("x", methods)


def test_the_file_names_the_method_that_the_run_is_about(tmp_path: Path) -> None:
    # A trained head with an untrained baseline's label would be guessed wrong.
    path = tmp_path / "x.parquet"
    for method in ("image only", "sum", "deterministic head"):
        write_rankings(path, 0, about={"method": method})
        assert read_side("x", path, None).method == method
        assert set(read_side("x", path, None).rows["method"].to_pylist()) == {method}
        assert read_side("x", path, "RAU head").method == "RAU head"
    older = read_side("x", write_rankings(path, 0), None)
    assert (older.method, older.metadata) == ("RAU head", RankingsMetadata())
    write_rankings(path, 0, about={"method": "other"})
    with pytest.raises(UserError, match="x has no method 'other'"):
        read_side("x", path, None)
    for odd in ("{", "[]", '"garments"'):
        write_rankings(path, 0, about={"dataset": odd})
        with pytest.raises(UserError, match="invalid metadata"):
            read_side("x", path, None)


@pytest.mark.parametrize("unusable", ["miss", "leave_out"])
def test_sides_agree_with_their_runs_own_metrics(tmp_path: Path, unusable: Any) -> None:
    rng = np.random.default_rng(0)
    ids = [f"i{n:02}" for n in range(40)]
    galleries: list[GalleryRow] = [
        {"gallery": "original", "category": "dress", "image_id": i} for i in ids
    ]
    queries: list[QueryRow] = [
        {
            "query_id": f"q{n}",
            "split": "val",
            "category": "dress",
            "reference_id": ids[n],
            "target_id": ids[n + 1],
            "captions": [f"is {n}", "is long"],
            "members": None,
            "relevant": [ids[n + 1], ids[0]],
        }
        for n in range(39)
    ]
    texts = sorted({text for query in queries for text in all_texts(query["captions"])})
    # The references or targets of a third of the queries are not there.
    there = [name for n, name in enumerate(ids) if n % 6]
    made = [
        Features(names, rng.normal(size=(len(names), 8)).astype(np.float32), {})
        for names in (there, texts)
    ]
    features = FeatureSet.on(torch.device("cpu"), *made)
    protocol = presets("garments")[0]
    methods = {protocol: {"sum": WeightedSum(0.5), "image only": WeightedSum(0.0)}}
    params = EvaluateParams(bootstrap=0, unusable=unusable)
    result, rankings = benchmark.evaluate(methods, queries, galleries, features, params, "sum")
    path = tmp_path / "x.parquet"
    write_table(path, rankings, RANKINGS, {"method": "sum", "unusable": unusable})
    sides = [read_side("x", path, method) for method in (None, "image only")]
    (done,) = comparison.compare(sides[0], sides[1], 100, 5).protocols
    assert (done.left_out > 0) == (unusable == "leave_out")
    assert "map" in done.cells["mean"]
    ours, theirs = result.protocols, result.baselines["image only"]
    for name, cell in done.cells["mean"].items():
        expected = [side[protocol.name]["mean"][name] for side in (ours, theirs)]
        assert [cell.a, cell.b] == pytest.approx(expected, abs=1e-4)


def test_an_untrained_baseline_with_a_heads_name_keeps_a_row_of_its_own() -> None:
    one, two, three, four = (WeightedSum(0.1 * n) for n in range(4))
    untrained = {"image only": one, "sum (ridge map)": two}
    heads = {"deterministic head": three, "image only": four}
    apart = with_baselines(untrained, heads, shared_space=False)
    assert apart == {"image only, untrained": one, "sum (ridge map)": two, **heads}
    assert with_baselines(untrained, heads, shared_space=True) == untrained | heads


def test_names_of_folders_are_safe() -> None:
    assert file_name("brave-theta_0.6", None) == "brave-theta_0.6"
    names = ["../../etc/passwd", "..", "HEAD~1", "a/b", "a b", "-x", "/", "ä" * 300, "x" * 300]
    made = [file_name(name, None) for name in names]
    assert len(set(made)) == len(names)
    for name in made:
        assert len(name) < 80
        assert Path(name).name == name
        assert name[0] not in "-."
    assert file_name("a", "sum") != file_name("a", None)


def test_a_wrong_name_says_what_was_tried(project: Path) -> None:
    for name in ("nowhere", "0" * 32, "--", "a/../b"):
        with pytest.raises(UserError, match="no file, no MLflow run id, no DVC experiment"):
            run(name, str(RANKS))
    assert not (project / "mlflow.db").exists()


def test_help_is_quick_to_read() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "rau", "compare", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout
    loaded = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert not loaded & {"torch", "pandas", "mlflow", "matplotlib", "dvc"}


def call(*command: str) -> None:
    tool = [sys.executable, "-m", *command] if command[0] == "dvc" else list(command)
    names = {"user.name": "t", "user.email": "t@t"}
    if command[0] == "git":
        tool[1:1] = [part for key, value in names.items() for part in ("-c", f"{key}={value}")]
    done = subprocess.run(tool, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with rankings tracked by DVC: a tag `before`, and a changed `after`."""
    folder = tmp_path_factory.mktemp("repository")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DVC_ROOT", raising=False)
        patch.chdir(folder)
        call("git", "init", "-q", "-b", "main")
        call("dvc", "init", "-q")
        workspace.PARAMS.write_text(yaml.safe_dump(PARAMS))
        for shift, tag in ((8, "before"), (0, "after")):
            write_rankings(RANKS, shift)
            call("dvc", "add", "-q", str(RANKS))
            call("git", "add", "-A")
            call("git", "commit", "-qm", tag)
            call("git", "tag", tag)
    return folder


@pytest.fixture
def repository(project: Path, template: Path) -> Path:
    """The project with the template's history."""
    shutil.copytree(template, project, dirs_exist_ok=True, symlinks=True)
    return project


def test_a_revision_is_read_from_the_cache(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # As an experiment that was queued leaves it: a commit that only a reference of DVC's names.
    call("git", "update-ref", "refs/exps/aa/" + "a" * 38 + "/brave-name", "before")
    for name in ("before", "HEAD~1", "brave-name"):
        run(str(RANKS), name)
        assert "+100.00" in capsys.readouterr().out
    assert written()[0].startswith("data-rankings-garments.parquet-")
    with pytest.raises(UserError, match="0 rows are only in A and 3 only in B"):
        run("before", str(write_rankings(Path("more.parquet"), 0, queries=15)))
    with pytest.raises(UserError, match="no git revision"):
        run("nothing", str(RANKS))
    for path in sorted(Path(".dvc/cache").rglob("*"), reverse=True):
        if path.is_file():
            path.unlink()
    with pytest.raises(UserError, match=r"before: its data/rankings/\S+ is not in DVC's cache"):
        run("before", str(RANKS))


def test_the_data_set_is_the_revisions_own(repository: Path) -> None:
    params = {"dataset": {"name": "cirr", "root": "store"}}
    workspace.PARAMS.write_text(yaml.safe_dump(params))
    run("before", "after")
    assert written() == ["before+after"]
    call("git", "add", "params.yaml")
    call("git", "commit", "-qm", "another data set")
    with pytest.raises(UserError, match=r"HEAD: no data/rankings/\S+ there"):
        run("HEAD", "after")


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, str], tuple[str, str]]:
    """Tracks rankings in one store; gives its address and the run's id."""
    root = tmp_path_factory.mktemp("tracking")
    uri = f"sqlite:///{root / 'mlflow.db'}"

    def make(shift: int, experiment: str) -> tuple[str, str]:
        path = write_rankings(root / str(shift) / "garments.parquet", shift)
        tags = {"dvc_experiment": experiment}
        artifacts = {path: "rankings"}
        record = Record(f"{shift} {experiment}", "x", {}, {}, (), tags, artifacts)
        return uri, track(record, uri, root / "mlruns")[0]

    return make


def artifacts(uri: str, run_id: str) -> set[str]:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    return {
        file.path
        for folder in client.list_artifacts(run_id, "compare")
        for file in client.list_artifacts(run_id, folder.path)
    }


def test_runs_are_fetched_and_get_the_comparison(
    project: Path,
    tracked: Callable[[int, str], tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (uri, first), (_, second) = tracked(0, "workspace"), tracked(8, "workspace")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    run(first, second)
    printed = capsys.readouterr().out
    assert "+100.00" in printed
    name = f"{first}+{second}"
    files = {f"compare/{name}/{file}" for file in ("index.html", "changes.csv", "differences.csv")}
    for one in (first, second):
        assert f"MLflow run {one}: artifact compare/{name}" in printed
        assert artifacts(uri, one) == files
    run(str(RANKS), second)
    assert len(artifacts(uri, first)) == 3
    assert len(artifacts(uri, second)) == 6
    with pytest.raises(UserError, match="no MLflow run id"):
        run("f" * 32, str(RANKS))


def test_an_experiments_run_is_found_by_its_name(
    repository: Path,
    tracked: Callable[[int, str], tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uri, of_before = tracked(8, "before")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    run("before", "after")
    assert f"MLflow run {of_before}: artifact compare/before+after" in capsys.readouterr().out
    assert len(artifacts(uri, of_before)) == 3
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run("before", "after")
    assert "only the files were written" in capsys.readouterr().err
    with pytest.raises(UserError, match="does not answer"):
        run("0" * 32, "after")


def test_artifacts_are_bounded(
    tracked: Callable[[int, str], tuple[str, str]], tmp_path: Path
) -> None:
    uri, one = tracked(0, "bounded")
    with pytest.raises(UserError, match="larger than 10 bytes"):
        fetch_artifact(uri, one, "rankings", ".parquet", tmp_path, 10)
    with pytest.raises(UserError, match="0 files instead of one"):
        fetch_artifact(uri, one, "model", ".parquet", tmp_path, 10)
    assert find_by_tag(uri, "dvc_experiment", "bounded") == one
    assert find_by_tag(uri, "dvc_experiment", "it's") is None
    missing = f"sqlite:///{tmp_path / 'none.db'}"
    assert find_by_tag(missing, "dvc_experiment", "bounded") is None
    (tmp_path / "broken.db").write_bytes(b"no database" * 99)
    with pytest.raises(TrackingUnavailable):
        find_by_tag(f"sqlite:///{tmp_path / 'broken.db'}", "dvc_experiment", "bounded")
