"""Runs in a real MLflow database, once each, and a server that does not answer."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rau.tracking import (
    COMPLETE,
    EXPERIMENT,
    Record,
    TrackingUnavailable,
    absolute,
    shown,
    track,
)
from tests.places import ROOT

RECORD = Record(
    digest="abc",
    name="first",
    params={"ua.theta": 0.7, "theta": 0.7, "dataset.root": None},
    metrics={"original.recall_at_10": 41.5},
    course=[("epoch.loss", 1, 3.0), ("epoch.loss", 2, 2.0)],
    tags={"coverage": "2 of 2 images"},
)


def read(uri: str) -> list[dict[str, object]]:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    return [
        {
            "id": run.info.run_id,
            "name": run.info.run_name,
            "params": run.data.params,
            "metrics": run.data.metrics,
            "tags": run.data.tags,
            "losses": [m.value for m in client.get_metric_history(run.info.run_id, "epoch.loss")],
            "files": sorted(f.path for f in client.list_artifacts(run.info.run_id)),
        }
        for run in client.search_runs([experiment.experiment_id])
    ]


def test_run_is_tracked_once_and_completed(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    page = tmp_path / "index.html"
    page.write_text("page")
    record = replace(RECORD, artifacts={page: ""})
    run, known = track(record, uri, tmp_path / "mlruns")
    assert not known
    assert track(record, uri, tmp_path / "mlruns") == (run, True)
    (found,) = read(uri)
    assert (found["id"], found["name"]) == (run, "first")
    assert found["params"] == {"ua.theta": "0.7", "theta": "0.7", "dataset.root": "None"}
    assert found["metrics"] == {"original.recall_at_10": 41.5, "epoch.loss": 2.0}
    assert (found["losses"], found["files"]) == ([3.0, 2.0], ["index.html"])
    tags = found["tags"]
    assert isinstance(tags, dict)
    assert (tags["coverage"], tags[COMPLETE]) == ("2 of 2 images", "true")
    other, _ = track(replace(record, digest="def"), uri, tmp_path / "mlruns")
    assert other != run
    assert len(read(uri)) == 2


def test_processes_side_by_side_make_one_database(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from rau.tracking import Record, track\n"
        "root = Path(sys.argv[1]); digest = sys.argv[2]\n"
        "record = Record(digest, digest, {'theta': digest}, {'m': 1.0})\n"
        "track(record, f'sqlite:///{root}/mlflow.db', root / 'mlruns')\n"
    )
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), name],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    for job in jobs:
        _, errors = job.communicate(timeout=120)
        assert job.returncode == 0, errors
    assert sorted(str(run["name"]) for run in read(f"sqlite:///{tmp_path / 'mlflow.db'}")) == [
        "one",
        "two",
    ]


def test_server_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingUnavailable, match="does not answer"):
        track(RECORD, "http://127.0.0.1:9", tmp_path)


def test_stores_that_cannot_be_used_say_so(tmp_path: Path) -> None:
    garbage = tmp_path / "mlflow.db"
    garbage.write_bytes(b"not a database" * 100)
    for uri in (f"sqlite:///{garbage}", "postgresql://me:secret@127.0.0.1:9/x"):
        with pytest.raises(TrackingUnavailable) as error:
            track(RECORD, uri, tmp_path / "runs")
        assert "secret" not in str(error.value)


def test_addresses() -> None:
    assert absolute("sqlite:///mlflow.db", Path("/here")) == "sqlite:////here/mlflow.db"
    assert absolute("sqlite:////there/m.db", Path("/here")) == "sqlite:////there/m.db"
    assert absolute("http://host", Path("/here")) == "http://host"
    assert shown("http://me:secret@host/x") == "http://host/x"
