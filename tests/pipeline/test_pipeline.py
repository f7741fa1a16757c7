"""The whole DAG on a tiny setting, in a git repository of its own, through real DVC and MLflow."""

import json
import re
import shutil
import signal
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline import finetune
from rau.evaluation import calibration
from rau.features.table import read_features, write_features
from rau.files import digest_file
from rau.finetuning import record
from tests import cirr_data
from tests.evaluation.test_calibration import synthetic
from tests.places import ROOT
from tests.project import call, command, dvc, error_line, own_features, runs, stage, start, use
from tests.report.test_report import Links


def page_text(page: str) -> str:
    links = Links()
    links.feed(page)
    return links.text


def test_one_command_makes_everything(built_project: Path) -> None:
    metrics = json.loads((built_project / "reports/metrics.json").read_text())
    assert metrics["coverage"]["images"] == metrics["coverage"]["images_expected"] == 360
    assert metrics["coverage"]["val_queries_usable"] == 120
    assert set(metrics["protocols"]) == {"original", "val"}
    assert set(metrics["protocols"]["original"]) == {"dress", "shirt", "toptee", "mean"}
    untrained = {"raw sum", "image only", "text only", "sum", "weighted sum"}
    assert set(metrics["baselines"]) == untrained | {"deterministic head"}
    assert metrics["method"] == "RAU head"
    deterministic = metrics["baselines"]["deterministic head"]["original"]["mean"]
    gap = metrics["against"]["original"]["mean"]["recall_at_10"]
    ours = metrics["protocols"]["original"]["mean"]["recall_at_10"]
    assert gap["difference"] == pytest.approx(ours - deterministic["recall_at_10"], abs=1e-3)
    assert gap["interval"][0] <= gap["difference"] <= gap["interval"][1]
    value = metrics["protocols"]["original"]["mean"]["mean_of_r10_r50"]
    low, high = metrics["headline"]["interval"]
    assert metrics["headline"]["value"] == value
    assert low <= value <= high
    page = (built_project / "reports/index.html").read_text()
    assert f"{value:.2f}" in page
    queries = built_project / "data/tables/garments/queries.parquet"
    assert digest_file(queries)[:16] in page
    assert metrics["encoder"]["key"] in page
    assert "data:image/jpeg;base64," in page
    (run,) = runs(built_project).values()
    assert (run["params"]["theta"], run["params"]["n"]) == ("0.8", "1")
    assert run["params"]["ua.theta"] == run["params"]["theta"]
    assert run["metrics"]["original.recall_at_10"] == pytest.approx(
        metrics["protocols"]["original"]["mean"]["recall_at_10"]
    )
    assert run["metrics"]["Headline"] == pytest.approx(value)
    assert (run["metrics"]["theta"], run["metrics"]["n"]) == (0.8, 1)
    assert sorted(run["metrics"])[:6] == ["Headline", "MAP", "R1", "R10", "R5", "R50"]
    assert run["metrics"]["R10"] == pytest.approx(ours)
    note = run["tags"]["mlflow.note.content"]
    assert f"**{value:.2f}** [{low:.2f}, {high:.2f}]" in note
    assert f"{metrics['against']['original']['mean']['mean_of_r10_r50']['difference']:+.2f}" in note
    assert run["tags"]["mlflow.source.git.commit"] == run["tags"]["git_commit"]
    assert run["seconds"] == pytest.approx(
        sum(v for k, v in run["metrics"].items() if k.startswith("time.")), abs=0.01
    )
    for name in STAGES:
        assert run["metrics"][f"time.{name}_seconds"] > 0
        assert run["metrics"][f"memory.{name}_bytes"] > 1e6
    assert {"index.html", "metrics.json", "figures", "rankings", "model"} <= run["files"]
    assert run["tags"]["headline_protocol"] == "original"
    assert run["tags"]["method"] == "RAU head"
    diagnostics = [found["name"] for found in metrics["diagnostics"]]
    assert run["tags"]["diagnostics"] == (", ".join(diagnostics) or "none")
    assert all(f"{found['evidence']}" in page_text(page) for found in metrics["diagnostics"])
    assert run["tags"]["coverage"].startswith("360 of 360 images")


def test_every_stage_is_one_line(built_project: Path) -> None:
    said = built_project.with_suffix(".printed").read_text()
    lines = said[: said.index("\nprotocol ")].splitlines()
    # The tiny holdout is no usual one.
    usual = [line for line in lines if not line.startswith("not calibrated: ")]
    order = [re.fullmatch(r"(\w+) +\d+ s  \S.*", line) for line in usual]
    assert all(order), said
    assert sorted(found[1] for found in order if found) == sorted(["watch", *STAGES])
    assert re.search(r"\ntrack +\d+ s  MLflow run \w+\n", said), said
    assert "\r" not in said


def test_nothing_to_do_tracks_nothing_new(project: Path) -> None:
    before = set(runs(project))
    printed = call(project, "dvc", "repro")
    assert printed.count("didn't change, skipping") == 9
    assert "tracked before" in printed
    assert set(runs(project)) == before


def test_a_search_is_logged_once_as_a_model_of_the_run(project: Path) -> None:
    use(project, track={"model": True})
    before = set(runs(project))
    printed = stage(project, "track")
    assert "120 images; 120 added" in printed
    assert "models:/rau-garments@newest, version 1" in printed
    assert "version" not in stage(project, "track")
    assert set(runs(project)) == before


@pytest.mark.parametrize("name", ["params.yaml", "pipeline/tables.py"])
def test_an_input_that_is_gone_is_named(project: Path, name: str) -> None:
    (project / name).unlink()
    printed = call(project, sys.executable, "-m", "pipeline.repro", code=255)
    (line,) = [line for line in printed.splitlines() if line.startswith("ERROR")]
    assert re.search(f"{name}' does not exist|No such file or directory: '.*{name}'", line)


def test_the_whole_life_of_an_experiment(project: Path, tmp_path: Path) -> None:
    """Queued, run, restored, shared and removed, where the studies never ran."""
    before = set(runs(project))
    shutil.copy(project / "mlflow.db", project / "other.db")
    dvc(project, "exp run --queue -S ua.theta=0.3,0.5", "queue start -j 2")
    # The workers go on in the background; `queue logs --follow` fails on a task about to run. Each
    # finished experiment has a reference, and git is asked in no time.
    deadline = time.monotonic() + 300
    finished = ("git", "for-each-ref", "refs/exps/[0-9a-f][0-9a-f]/*/*")
    while len(call(project, *finished).splitlines()) < 2:
        assert time.monotonic() < deadline, call(project, "dvc", "queue", "status")
        time.sleep(0.5)
    while re.search("Queued|Running", call(project, "dvc", "queue", "status")):
        assert time.monotonic() < deadline
    found = {run["params"]["theta"]: run for run in runs(project).values()}
    assert {"0.3", "0.5", "0.8"} <= set(found)
    assert all(run["tags"]["rau.complete"] == "true" for run in found.values())
    names = {theta: run["tags"]["dvc_experiment"] for theta, run in found.items()}
    assert len(set(names.values())) == len(found)
    other = f"sqlite:///{project / 'other.db'}"
    again = ("dvc", "exp", "run", "-n", "again", "-S", "ua.theta=0.5")
    printed = call(project, *again, MLFLOW_TRACKING_URI=other)
    assert "Running stage 'train'" not in printed
    assert "Running stage 'deterministic'" not in printed
    assert "Running stage 'track'" in printed
    (restored,) = (run for name, run in runs(project, "other.db").items() if name not in before)
    assert restored["params"]["theta"] == "0.5"
    for name in ("encoder", "train"):
        key = f"time.{name}_seconds"
        assert restored["metrics"][key] == found["0.5"]["metrics"][key] > 0
    # Shared with another clone, which has never run anything.
    one, store = names["0.3"], tmp_path / "store"
    call(tmp_path, "git", "init", "-q", "--bare", "shared.git")
    call(project, "git", "remote", "add", "origin", str(tmp_path / "shared.git"))
    printed = dvc(
        project,
        "exp show --only-changed --drop '.*/|Created|State|Executor'",
        "exp show --md",
        f"exp diff main {one}",
        f"exp apply {one}",
        f"remote add --local --default store {store}",
        "push",
        f"exp push origin {one}",
        f"exp branch {one} kept",
        "gc --force --workspace --all-experiments",
        "checkout",
    )
    assert one in printed
    table = printed[: printed.index("| Experiment")].splitlines()
    assert max(map(len, table)) <= 120, "wider than a terminal"
    assert all(any(name in line for line in table) for name in ("ua.theta", one))
    assert re.search(r"ua\.theta +0\.8 +0\.3", printed)
    headline = (project / "reports/summary.json").read_text()
    call(project, "git", "push", "-q", "origin", "main", "kept")
    call(tmp_path, "git", "clone", "-q", "-b", "kept", "shared.git", "clone")
    clone = tmp_path / "clone"
    dvc(clone, f"remote add --local --default store {store}", "pull", "checkout")
    assert (clone / "reports/summary.json").read_text() == headline
    call(clone, "git", "checkout", "-q", "main")
    dvc(clone, f"exp pull origin {one}", f"exp apply {one}")
    assert (clone / "reports/summary.json").read_text() == headline
    # A worker may wait for a message that another took.
    stop, rest = "queue stop --kill", f"exp remove {one} again"
    printed = dvc(project, stop, rest, "exp list --all-commits")
    assert one not in printed.splitlines()[-1]


STAGES = (
    "download",
    "tables",
    "encoder",
    "finetune",
    "features",
    "deterministic",
    "train",
    "evaluate",
    "report",
)
OUTPUTS = {
    "download": "data/manifests",
    "tables": "data/tables",
    "encoder": "data/encoder",
    "finetune": "data/finetuned",
    "features": "data/features",
    "deterministic": "data/models/garments-deterministic",
    "train": "data/models/garments",
    "evaluate": "data/rankings",
    "report": "reports/index.html",
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_killed_stage_goes_on(project: Path, name: str) -> None:
    """Killed without warning at three moments and run again, a stage writes the same bytes."""
    output = project / OUTPUTS[name]
    if name == "report":
        stage(project, name)  # The page names the commit, which is another by now.
    before = contents(output)
    assert before
    for path in (output, project / "data/.parts", project / "data/raw"):
        if name == "download" or path.name != "raw":
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    ends = []
    for seconds in (0.05, 0.2, 0.5):
        process = start(project, f"pipeline.{name}")
        process.join(seconds)
        process.kill()
        process.join()
        ends.append(process.exitcode)
    assert -signal.SIGKILL in ends, "it was done before it could be killed"
    stage(project, name)
    assert contents(output) == before


def contents(place: Path) -> dict[str, bytes]:
    """Whole files by name; what a kill left half-written has a name of its own."""
    paths = [place] if place.is_file() else [p for p in place.rglob("*") if p.is_file()]
    return {str(p.relative_to(place)): p.read_bytes() for p in paths if p.suffix != ".tmp"}


def test_a_broken_drawing_is_drawn_again(project: Path) -> None:
    image = next((project / "data/raw").glob("garments-*/images/*.jpg"))
    before = image.read_bytes()
    image.write_bytes(before[:500])
    assert "360 of 360 images" in stage(project, "download")
    assert image.read_bytes() == before


def test_stages_are_safe_to_run_twice(project: Path) -> None:
    files = ["reports/metrics.json", "data/rankings/garments.parquet", "reports/index.html"]
    stage(project, "report")  # The page names the commit, which is another by now.
    before = [(project / name).read_bytes() for name in files]
    for name in ("evaluate", "report"):
        stage(project, name)
    assert [(project / name).read_bytes() for name in files] == before


def test_bad_input_is_one_line(project: Path) -> None:
    params = project / "params.yaml"
    whole = params.read_text()

    def broken(section: str, **values: Any) -> None:
        params.write_text(whole)
        use(project, **{section: values})

    broken("ua", theta=1.5)
    assert "ua.theta" in error_line(stage(project, "train", code=1))
    broken("train", device="cuda:7")
    assert "train.device=cuda:7" in error_line(stage(project, "train", code=1))
    broken("dataset", root="nowhere")
    assert "dataset.root" in error_line(stage(project, "download", code=1))
    broken("evaluate", headline="best")
    assert "evaluate.headline" in error_line(stage(project, "evaluate", code=1))
    params.write_text(whole)
    cut = project / "data/features/garments/texts.parquet"
    cut.write_bytes(cut.read_bytes()[:-9])
    assert "texts.parquet is not a complete Parquet" in error_line(
        stage(project, "evaluate", code=1)
    )
    (project / "data/rankings/garments.parquet").unlink()
    assert "rankings/garments.parquet" in error_line(stage(project, "track", code=1))
    (project / "data/tables/garments/queries.parquet").unlink()
    assert "queries.parquet is missing" in error_line(stage(project, "evaluate", code=1))
    root = next((project / "data/raw").iterdir())
    image = next((root / "images").glob("*.jpg"))
    image.write_bytes(image.read_bytes()[:300])
    broken("dataset", root=str(root))
    assert f"{image.stem} (corrupt: " in error_line(stage(project, "download", code=1))
    broken("dataset", root=str(root), allow_missing=True)
    assert "359 of 360 images" in stage(project, "download")
    assert "unexpected extra argument" in error_line(stage(project, "train", "x", code=1)).lower()


def test_several_processes_fine_tune_one_encoder(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, parts = project / "data/finetuned/garments", project / "data/.parts/finetuned"
    before = load_file(output / "encoder/open_clip_model.safetensors")
    shutil.rmtree(output)
    shutil.rmtree(parts)
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    printed = call(project, sys.executable, "-m", *torchrun, "-m", "pipeline.finetune")
    assert printed.count("kept epoch") == 1
    assert record.is_whole(output, record.Record.read(output).key)
    after = load_file(output / "encoder/open_clip_model.safetensors")
    for name, value in before.items():
        assert torch.allclose(value, after[name], rtol=1e-2, atol=1e-3), name
    # They share the cores of a node.
    seen: list[tuple[int, int]] = []

    def share(*given: int) -> None:
        seen.append((given[0], given[1]))
        raise KeyboardInterrupt

    monkeypatch.chdir(project)
    monkeypatch.setattr("rau.cpu.limit_threads", share)
    four = nullcontext(SimpleNamespace(local=4, device=torch.device("cpu")))
    monkeypatch.setattr("rau.finetuning.processes.Processes", lambda *_: four)
    with pytest.raises(KeyboardInterrupt):
        finetune.main()
    assert seen == [(1, 4)]


def test_heads_start_from_the_composer_of_their_architecture(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(project, train={"start": "finetuned"})

    def choose(head: str, **finetune: str) -> None:
        use(project, head={"name": head}, finetune=finetune)

    choose("combiner", composer="deterministic")
    assert "use train.start=fresh" in error_line(stage(project, "train", code=1))
    assert "fresh" not in stage(project, "deterministic")
    choose("combiner", composer="head")
    warned: list[str] = []
    monkeypatch.setattr("pipeline.stage.warn", lambda made, _: warned.append(made["encoder"]))
    stage(project, "finetune")
    assert warned == ["garments-clip"]
    stage(project, "train")
    assert "the deterministic head, which starts fresh" in stage(project, "deterministic")
    choose("image_only", composer="head", towers="text")
    assert "reads no captions" in error_line(stage(project, "finetune", code=1))


def test_features_of_another_encoder_are_refused(project: Path) -> None:
    for kind, column in (("images", "image_id"), ("texts", "text")):
        path = project / f"data/features/garments/{kind}.parquet"
        made = read_features(path, column)
        write_features(path, column, made.names, [made.matrix], made.metadata | {"key": "other"})
    assert "the head was trained on features of" in error_line(stage(project, "evaluate", code=1))


def test_a_calibration_of_another_head_is_refused(project: Path) -> None:
    found = calibration.fit(synthetic(0, 100), "another", "made")
    assert found is not None
    found.write(project / "data/models/garments" / calibration.FILE)
    assert "is of another head" in error_line(stage(project, "evaluate", code=1))


def test_a_head_takes_the_place_of_all_that_was_there(project: Path) -> None:
    folder = project / "data/models/garments-deterministic"
    before = contents(folder)
    for name in ("no_head.json", "text_map.safetensors", calibration.FILE):
        (folder / name).write_text("{}")
    stage(project, "deterministic")
    assert contents(folder) == before
    metrics = project / "reports/metrics.json"
    stage(project, "evaluate")
    assert "deterministic head" in json.loads(metrics.read_text())["baselines"]


def test_features_of_the_users_own(project: Path) -> None:
    use(project, features={"source": "own"})
    assert "360 image ids" in own_features(project)
    for name in ("encoder", "finetune", "features", "deterministic", "train", "evaluate", "report"):
        stage(project, name)
    assert [path.name for path in (project / "data/encoder").iterdir()] == ["rau_encoder.json"]
    metrics = json.loads((project / "reports/metrics.json").read_text())
    assert metrics["encoder"]["encoder"] == "features.source"
    assert "weighted sum (ridge map)" in metrics["baselines"]
    line = error_line(command(project, "index", "--dataset", "--index", "index", code=1))
    assert "features.source" in line


def test_cirr_end_to_end(project: Path, tmp_path: Path) -> None:
    pictures = sorted((next((project / "data/raw").iterdir()) / "images").glob("*.jpg"))
    cirr_data.write(tmp_path / "cirr", pictures)
    use(project, dataset={"name": "cirr", "root": str(tmp_path / "cirr")})
    assert "216 of 216 images" in stage(project, "download")
    for name in ("tables", "finetune", "features", "deterministic", "train"):
        stage(project, name)
    assert "cirr_test1_recall_subset.json" in stage(project, "evaluate")
    metrics = json.loads((project / "reports/metrics.json").read_text())
    values = metrics["protocols"]["cirr"]["all"]
    assert metrics["headline"]["metric"] == "mean_of_r5_rs1"
    assert values["mean_of_r5_rs1"] == pytest.approx(
        (values["recall_at_5"] + values["subset_recall_at_1"]) / 2, abs=1e-3
    )
    assert values["subset_recall_at_1"] <= values["subset_recall_at_3"] <= 100
    recall = json.loads((project / "data/submissions/cirr_test1_recall.json").read_text())
    assert len(recall) == 72 + 2
    assert len(recall["200"]) == 50
    stage(project, "report")
    assert "Rs@1" in (project / "reports/index.html").read_text()
    (tmp_path / "cirr/img_raw/test1-0-0-img0.png").unlink()
    assert "test1-0-0-img0 (missing)" in error_line(stage(project, "download", code=1))
    use(project, dataset={"allow_missing": True})
    for name in ("download", "tables", "features"):
        stage(project, name)
    assert "no submission: 1 of 72 test1 images are missing" in stage(project, "evaluate")
    status = json.loads((project / "data/submissions/status.json").read_text())
    assert status["files"] == []
    assert [p.name for p in (project / "data/submissions").iterdir()] == ["status.json"]


def test_server_that_does_not_answer_stops_nothing(project: Path) -> None:
    uri = "http://127.0.0.1:9"
    printed = stage(project, "track", MLFLOW_TRACKING_URI=uri, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert "warning: MLflow at" in printed
    assert "later" in printed


def test_help_is_quick_to_read() -> None:
    """What costs a second each must not be imported to say what a stage does."""
    heavy = {"torch", "pandas", "mlflow", "open_clip", "matplotlib"}
    names = (*STAGES, "track", "study", "study_report", "study_track")
    script = (
        "import sys; from pathlib import Path; from tests.project import stage\n"
        "for name in sys.argv[1:]:\n"
        "    assert 'Usage' in stage(Path(), name, '--help')\n"
        "    print(name, *sys.modules)\n"
        "import rau.report.run_report, rau.tracking\n"
        "assert not {'torch', 'mlflow'} & {*sys.modules}, 'a report needs neither'"
    )
    lines = call(ROOT, sys.executable, "-c", script, *names).splitlines()
    for name, line in zip(names, lines, strict=True):
        loaded = set(line.split())
        assert {"typer", "rau.errors"} <= loaded
        assert not heavy & loaded, name
