"""The studies' own DVC file on the tiny project, through real DVC, worker processes and MLflow."""

import io
import shutil
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from rau.methods import METHODS
from rau.params import load
from tests.project import call, runs, stage, start, use
from tests.report.test_report import Links

FILE = "pipeline/dvc.yaml"


@pytest.fixture(scope="module")
def studied(built_project: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A copy of the tiny project after its studies, and what they printed."""
    folder = tmp_path_factory.mktemp("studied") / "project"
    shutil.copytree(built_project, folder, symlinks=True)
    use(folder, study={"preset": "smoke", "jobs": 1})
    return folder, call(folder, "dvc", "repro", f"{FILE}:studies")


def test_one_command_makes_every_study(studied: tuple[Path, str]) -> None:
    folder, printed = studied
    assert "runs, 0 stored; at most" in printed
    tables = folder / "data/studies/garments"
    for study, variants in (("methods", len(METHODS)), ("ablation", 8), ("theta", 4), ("n", 3)):
        found = pd.read_csv(tables / study / "runs.csv")
        assert found.variant.nunique() == variants
        assert (found.groupby("variant").seed.nunique() == 2).all()
        summary = pd.read_csv(tables / study / "summary.csv")
        assert set(summary.protocol) == {"original", "val"}
        assert summary.difference.isna().sum() == len(summary) / variants
        for protocol in ("original", "val"):
            rows = summary[(summary.protocol == protocol) & (summary.metric == "recall_at_10")]
            means = found.groupby("variant")[f"{protocol}.recall_at_10"].mean()
            for _, row in rows.iterrows():
                assert row["mean"] == pytest.approx(means[row.variant], abs=1e-3)
                assert row.low <= row["mean"] <= row.high
    page = folder / "reports/studies/garments/index.html"
    links = Links()
    links.feed(page.read_text())
    assert all(link.startswith(("data:", "#")) for link in links.loaded)
    for title in ("Methods side by side", "Ablation", "threshold θ", "number n of blocks"):
        assert title in links.text
    assert (page.with_name("theta.png")).stat().st_size > 10_000


def test_shared_configurations_ran_once(studied: tuple[Path, str]) -> None:
    folder, _ = studied
    tables = folder / "data/studies/garments"
    found = {s: pd.read_csv(tables / s / "runs.csv") for s in ("ablation", "theta", "n")}
    same = [
        list(rows[rows.variant == "deterministic head"].run)
        for rows in (found["ablation"], found["theta"])
    ]
    assert same[0] == same[1]
    assert len(set(same[0])) == 2
    everything = found["ablation"][found["ablation"].variant == "ISU + CSU + DR"]
    assert set(everything.run) <= set(found["n"].run)
    kept = {path.stem for path in (folder / "data/.parts/runs").glob("*.safetensors")}
    assert set().union(*(rows.run for rows in found.values())) <= kept


def test_nested_runs_in_mlflow(studied: tuple[Path, str]) -> None:
    folder, _ = studied
    found = runs(folder)
    parents = {n: r for n, r in found.items() if n.startswith("garments study")}
    assert set(parents) == {f"garments study {s}" for s in ("methods", "ablation", "theta", "n")}
    child = found["θ = 0.3, seed 1"]
    assert child["params"]["theta"] == "0.3"
    assert child["tags"]["mlflow.parentRunId"]
    assert child["tags"]["diagnostics"]
    table = pd.read_csv(folder / "data/studies/garments/theta/runs.csv")
    row = table[(table.variant == "θ = 0.3") & (table.seed == 1)].iloc[0]
    assert child["metrics"]["original.recall_at_10"] == pytest.approx(row["original.recall_at_10"])
    # What the view of θ and n shows.
    assert (child["metrics"]["theta"], child["metrics"]["n"]) == (0.3, row["n"])
    assert child["metrics"]["R10"] == child["metrics"]["original.recall_at_10"]
    assert child["metrics"]["Headline"] == pytest.approx(row["original.mean_of_r10_r50"])
    assert child["seconds"] == pytest.approx(row["seconds"], abs=0.01)
    assert child["tags"]["mlflow.source.git.commit"]
    assert child["data"] == ["garments"]
    whole = parents["garments study theta"]
    assert whole["seconds"] == pytest.approx(table.seconds.sum(), abs=0.01)
    assert {"index.html", "study", "figures"} <= parents["garments study theta"]["files"]


def test_again_repeats_nothing(studied: tuple[Path, str]) -> None:
    folder, _ = studied
    before = set(runs(folder))
    printed = stage(folder, "study") + stage(folder, "study_track")
    assert "theta: all 8 runs are stored" in printed
    assert "at most" not in printed
    assert "(16 tracked before)" in printed
    assert set(runs(folder)) == before


def test_a_stopped_study_keeps_what_it_finished(studied: tuple[Path, str], tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(studied[0], folder, symlinks=True)
    use(folder, study={"jobs": 2})
    store = folder / "data/.parts/runs"
    table = (folder / "data/studies/garments/theta/runs.csv").read_text()
    shutil.rmtree(store)
    process = start(folder, "pipeline.study", "theta")
    for _ in range(600):
        if store.exists() and any(store.glob("*.safetensors")):
            break
        time.sleep(0.1)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.join()
    assert len(workers) >= 2
    assert not psutil.wait_procs(workers, timeout=30)[1]  # None is left behind.
    kept = {path: path.stat().st_mtime_ns for path in store.glob("*.safetensors")}
    assert 0 < len(kept) < 8
    assert f"{len(kept)} stored" in stage(folder, "study", "theta")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    again = (folder / "data/studies/garments/theta/runs.csv").read_text()
    columns = [name for name in table.splitlines()[0].split(",") if name != "seconds"]
    before, after = (pd.read_csv(io.StringIO(text))[columns] for text in (table, again))
    pd.testing.assert_frame_equal(before, after)


def test_findings_are_written_of_what_is_current(studied: tuple[Path, str], tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(studied[0], folder, symlinks=True)
    page = folder / "docs/findings.md"
    page.parent.mkdir(exist_ok=True)
    page.write_text("# Findings\n\n<!-- answers -->\n<!-- end -->\n")
    stage(folder, "findings")
    first = page.read_text()
    for name in ("methods", "ablation", "theta", "n"):
        own = page.with_suffix("") / f"garments-fine-tuned/{name}.md"
        assert f"({own.relative_to(page.parent)})" in first
        assert own.with_suffix(".svg").read_text().startswith("<?xml")
        assert own.read_text().count("## Protocol ") == 2
    assert "Do recalls mean composition?" in first
    use(folder, train={"lr": 2 * load(folder / "params.yaml").train.lr})
    # The studies and the run.
    assert stage(folder, "findings").count("made by other code") == 5
    assert page.read_text().count(" †: ") == 5


def test_unknown_study_is_one_line(studied: tuple[Path, str]) -> None:
    printed = stage(studied[0], "study", "everything", code=1)
    assert "error: study everything: choose from tune, methods" in printed
