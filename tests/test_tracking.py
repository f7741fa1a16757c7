"""Runs in a real MLflow database, once each, and servers that do not answer."""

import base64
import json
import socket
import subprocess
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

from rau import mlflow_client, mlflow_view
from rau.errors import UserError
from rau.mlflow_client import shown
from rau.tracking import (
    COMPLETE,
    EXPERIMENT,
    Data,
    Record,
    TrackingUnavailable,
    fetch_artifact,
    fetch_from_model,
    find_by_tag,
    log_model,
    store_uri,
    track,
)
from tests.places import ROOT

RECORD = Record(
    digest="abc",
    name="first",
    params={"ua.theta": 0.7, "theta": 0.7, "dataset.root": None},
    metrics={"original.recall_at_10": 41.5},
    history=[("epoch.loss", 1, 3.0), ("epoch.loss", 2, 2.0)],
    tags={"coverage": "2 of 2 images"},
)


@pytest.fixture(autouse=True)
def default_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database without runs."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("empty")
    MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    return folder


@pytest.fixture
def uri(empty: Path, tmp_path: Path) -> str:
    """A database without runs."""
    (tmp_path / "mlflow.db").write_bytes((empty / "mlflow.db").read_bytes())
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def read(uri: str, name: str = EXPERIMENT) -> list[dict[str, object]]:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(name)
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


def test_run_is_tracked_once_in_a_new_database(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    page = tmp_path / "index.html"
    page.write_text("page")
    record = replace(RECORD, artifacts={page: ""})
    run, known = track(record, uri, tmp_path / "mlruns")
    assert known == [False]
    assert track(record, uri, tmp_path / "mlruns") == (run, [True])
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


def test_run_that_broke_off_is_made_afresh(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    def logged_then_killed(self: MlflowClient, *args: Any, **named: Any) -> None:
        log_batch(self, *args, **named)
        raise KeyboardInterrupt

    log_batch = MlflowClient.log_batch
    record = replace(RECORD, metrics={**RECORD.metrics, "time.train_seconds": 1.0})
    for name, broken in (
        ("create_run", killed),
        ("log_batch", logged_then_killed),
        ("set_terminated", killed),
        ("set_tag", killed),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(MlflowClient, name, broken)
            with pytest.raises(KeyboardInterrupt):
                track(record, uri, tmp_path / "mlruns")
    # A figure that the digest does not cover, measured again.
    record = replace(record, metrics={**record.metrics, "time.train_seconds": 2.0})
    run, known = track(record, uri, tmp_path / "mlruns")
    assert known == [False]
    (found,) = read(uri)
    assert (found["id"], found["losses"]) == (run, [3.0, 2.0])
    history = MlflowClient(uri).get_metric_history(run, "time.train_seconds")
    assert [point.value for point in history] == [2.0]
    assert track(record, uri, tmp_path / "mlruns") == (run, [True])


def test_a_run_has_its_data_its_model_and_the_time_it_took(uri: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    head = tmp_path / "head"
    head.mkdir()
    (head / "head.safetensors").write_bytes(b"weights")
    data = Data("garments", "d1", "data/tables/garments", "train, val")
    record = replace(RECORD, seconds=90.0, data=data, model=("rau", head))
    run, _ = track(record, uri, tmp_path / "mlruns")
    client = MlflowClient(uri)
    found = client.get_run(run)
    assert found.info.end_time - found.info.start_time == 90_000
    assert found.inputs is not None
    assert found.outputs is not None
    (given,) = found.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("garments", "d1")
    assert [tag.value for tag in given.tags] == ["train, val"]
    (output,) = found.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert (model.name, model.source_run_id, model.status.value) == ("rau", run, "READY")
    files = client.list_logged_model_artifacts(output.model_id)
    assert [file.path for file in files] == ["head.safetensors"]


def test_the_experiment_offers_a_view_of_theta_and_n(uri: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    track(RECORD, uri, tmp_path / "mlruns")
    client = MlflowClient(uri)
    tags = client.get_experiment("1").tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    packed = json.loads(tags[mlflow_view.TAG])["state"].removeprefix("deflate;")
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    kinds = [chart["type"] for chart in state["compareRunCharts"]]
    assert kinds == ["PARALLEL", "CONTOUR"]
    assert "metrics.`Headline`" in state["selectedColumns"]
    # What a user made of it stays.
    client.set_experiment_tag("1", mlflow_view.TAG, "mine")
    track(replace(RECORD, digest="other"), uri, tmp_path / "mlruns")
    assert client.get_experiment("1").tags[mlflow_view.TAG] == "mine"


def test_a_run_that_broke_off_takes_its_model_with_it(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    head = tmp_path / "head"
    head.mkdir()
    (head / "head.safetensors").write_bytes(b"weights")
    record = replace(RECORD, model=("rau", head))
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_terminated", killed)
        with pytest.raises(KeyboardInterrupt):
            track(record, uri, tmp_path / "mlruns")
    run, _ = track(record, uri, tmp_path / "mlruns")
    models = MlflowClient(uri).search_logged_models(["1"])
    assert [model.source_run_id for model in models] == [run]


def test_nested_runs_are_found_again(uri: str, tmp_path: Path) -> None:
    children = [replace(RECORD, digest=f"child {n}", name=f"child {n}") for n in range(2)]
    run, known = track(RECORD, uri, tmp_path / "mlruns", children[:1])
    assert known == [False, False]
    assert track(RECORD, uri, tmp_path / "mlruns", children) == (run, [True, True, False])
    parents = {str(r["name"]): r["tags"].get("mlflow.parentRunId") for r in read(uri)}  # type: ignore[attr-defined]
    assert parents == {"first": None, "child 0": run, "child 1": run}
    mlflow_client.Client(uri).delete_run(run)
    again, known = track(RECORD, uri, tmp_path / "mlruns", children)
    assert (again != run, known) == (True, [False, True, True])
    parents = {str(r["name"]): r["tags"].get("mlflow.parentRunId") for r in read(uri)}  # type: ignore[attr-defined]
    assert parents == {"first": None, "child 0": again, "child 1": again}


def test_experiment_of_the_environment(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    run, _ = track(RECORD, uri, tmp_path / "mlruns")
    assert [found["id"] for found in read(uri, "mine")] == [run]
    assert find_by_tag(uri, "coverage", "2 of 2 images") == run
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    assert find_by_tag(uri, "coverage", "2 of 2 images") is None
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "1")
    assert track(RECORD, uri, tmp_path / "mlruns") == (run, [True])
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "7")
    with pytest.raises(TrackingUnavailable, match="No Experiment with id=7"):
        track(RECORD, uri, tmp_path / "mlruns")


def test_deleted_experiment_says_how_to_restore_it(uri: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    run, _ = track(RECORD, uri, tmp_path / "mlruns")
    client = MlflowClient(uri)
    number = client.get_run(run).info.experiment_id
    client.delete_experiment(number)
    with pytest.raises(TrackingUnavailable) as error:
        track(RECORD, uri, tmp_path / "mlruns")
    command = str(error.value).split("`")[1]
    assert command == (
        f"MLFLOW_TRACKING_URI={uri} mlflow experiments restore --experiment-id {number}"
    )
    client.restore_experiment(number)
    assert track(RECORD, uri, tmp_path / "mlruns") == (run, [True])


def test_mistakes_are_not_blamed_on_the_store(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    (tmp_path / "page.html").write_text("page")
    for missing in ("figures", "index.html"):
        files = {tmp_path / "page.html": "", tmp_path / missing: ""}
        with pytest.raises(FileNotFoundError, match=missing):
            track(replace(RECORD, artifacts=files), uri, tmp_path / "mlruns")
    assert read(uri) == []
    with pytest.raises(UserError, match=r"^MLflow refuses a name or a value .*no\?t"):
        track(replace(RECORD, params={"no?t": 1}), uri, tmp_path / "mlruns")
    monkeypatch.setattr(MlflowClient, "set_tag", lambda: None)
    with pytest.raises(TypeError):
        track(RECORD, uri, tmp_path / "mlruns")


def test_names_of_the_user_that_mlflow_refuses_are_one_line(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, refused = tmp_path / "mlruns", r"^MLflow refuses a name or a value .*{}"
    with pytest.raises(UserError, match=refused.format("no run")):
        log_model(uri, runs, "no run", "a search", ("name", "alias"), {}, tmp_path)
    with pytest.raises(UserError, match=refused.format("a:b")):
        fetch_from_model(uri, "models:/a:b@newest", ["index.json"], tmp_path, 1)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "mine")
    with pytest.raises(UserError, match=refused.format("mine")):
        track(RECORD, uri, runs)


@pytest.mark.parametrize("works", [True, False])
def test_a_model_leaves_the_end_and_the_status_of_its_run(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    import mlflow.pyfunc

    def logged(**_: Any) -> SimpleNamespace:
        if not works:
            raise OSError("disk full")
        return SimpleNamespace(registered_model_version=1)

    monkeypatch.setattr(mlflow.pyfunc, "log_model", logged)
    client = mlflow.MlflowClient(uri)
    client.create_registered_model("name")
    client.create_model_version("name", str(tmp_path))
    run, _ = track(replace(RECORD, ended=1e9, seconds=5.0), uri, tmp_path / "mlruns")
    with nullcontext() if works else pytest.raises(TrackingUnavailable, match="disk full"):
        log_model(uri, tmp_path / "mlruns", run, "", ("name", "alias"), {}, tmp_path)
    info = client.get_run(run).info
    assert (info.status, info.end_time - info.start_time) == ("FINISHED", 5000)


def test_metrics_of_any_category_have_names_that_mlflow_takes(uri: str, tmp_path: Path) -> None:
    track(replace(RECORD, metrics={"original.d'été @ home.map": 1.0}), uri, tmp_path / "mlruns")
    (found,) = read(uri)
    assert found["metrics"] == {"original.d_été _ home.map": 1.0, "epoch.loss": 2.0}


def test_an_artifact_is_bounded_where_the_store_does_not_say_its_size(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from mlflow.entities import FileInfo

    (tmp_path / "page.html").write_text("page")
    record = replace(RECORD, artifacts={tmp_path / "page.html": "pages"})
    run, _ = track(record, uri, tmp_path / "mlruns")
    listed = [FileInfo("pages/page.html", False, None)]
    monkeypatch.setattr(MlflowClient, "list_artifacts", lambda *_: listed)
    into = tmp_path / "copy"
    into.mkdir()
    found = fetch_artifact(uri, run, "pages", ".html", into, 4)
    assert found is not None
    assert found.read_text() == "page"
    with pytest.raises(UserError, match="larger than 3 bytes"):
        fetch_artifact(uri, run, "pages", ".html", into, 3)


def test_processes_side_by_side_make_one_database_and_one_run(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from rau.tracking import Record, track\n"
        "root = Path(sys.argv[1])\n"
        "for digest in ('shared', sys.argv[2]):\n"
        "    record = Record(digest, digest, {'theta': digest}, {'m': 1.0})\n"
        "    track(record, f'sqlite:///{root}/mlflow.db', root / 'mlruns')\n"
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
        "shared",
        "two",
    ]


class Server:
    """Answers every request byte by byte, ten seconds long, and counts the requests."""

    def __init__(self) -> None:
        self.asked = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.asked += 1
                threading.Thread(target=self._drip, args=[connection], daemon=True).start()

    def _drip(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n")
            while self._socket.fileno() >= 0:
                connection.sendall(b"{")
                time.sleep(0.05)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(mlflow_client, "DEADLINE", 1)
    found = Server()
    yield found
    found.close()


def test_server_that_drips_bytes_is_given_up(server: Server, tmp_path: Path) -> None:
    assert mlflow_client.SLOWEST > 0
    started = time.monotonic()
    with pytest.raises(TrackingUnavailable, match=r"does not answer \(TimeoutError\)"):
        track(RECORD, server.uri, tmp_path / "mlruns")
    assert time.monotonic() - started < 10
    assert server.asked == 1


def test_a_server_is_asked_by_one_process_at_a_time(server: Server, tmp_path: Path) -> None:
    def late() -> None:
        with suppress(TrackingUnavailable):
            track(RECORD, server.uri, tmp_path / "mlruns")

    waiting = threading.Thread(target=late)
    with FileLock(tmp_path / "mlflow.db.lock"):
        waiting.start()
        waiting.join(1)
        assert (waiting.is_alive(), server.asked) == (True, 0)
    waiting.join(10)
    assert (waiting.is_alive(), server.asked) == (False, 1)


def test_server_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingUnavailable, match="does not answer"):
        track(RECORD, "http://127.0.0.1:9", tmp_path)


def test_stores_that_cannot_be_used_say_so(tmp_path: Path) -> None:
    garbage = tmp_path / "mlflow.db"
    garbage.write_bytes(b"not a database" * 100)
    for uri in (
        f"sqlite:///{garbage}",
        f"sqlite:///{garbage}/mlflow.db",
        "postgresql://me:secret@127.0.0.1:9/x",
        "http://me:secret@127.0.0.1:9",
        "bogus://me:secret@host",
        "postgresql://me:secret@host:port/x",
        "http://me:secret@[::1",
        f"file:{tmp_path}",
    ):
        with pytest.raises(TrackingUnavailable) as error:
            track(RECORD, uri, tmp_path / "runs")
        assert "secret" not in "".join(traceback.format_exception(error.value))
        assert "\n" not in str(error.value)


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, absolute in (
        ("", "sqlite:////here/mlflow.db"),
        ("sqlite:///mlflow.db", "sqlite:////here/mlflow.db"),
        ("sqlite:////there/m.db", "sqlite:////there/m.db"),
        ("http://host", "http://host"),
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
        assert store_uri(Path("/here")) == absolute
    for uri, printed in (
        ("http://me:secret@host/x", "http://host/x"),
        ("postgresql://me:a/b@c@host:5/x", "postgresql://host:5/x"),
        (
            "postgresql://host/x?user=me&sslpassword=secret&a=b",
            "postgresql://host/x?user=me&sslpassword=***&a=b",
        ),
        ("https://host/x?a=b&api_key=secret", "https://host/x?a=b&api_key=***"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
    ):
        assert shown(f"at {uri} or {uri}") == f"at {printed} or {printed}"
