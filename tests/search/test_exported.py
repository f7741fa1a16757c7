"""A search as an MLflow model, behind MLflow's own server and loaded as pyfunc."""

import base64
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from rau import tracking
from rau.encoders import sentence_export
from rau.errors import UserError
from rau.models.checkpoint import WEIGHTS
from rau.params import EncoderParams
from rau.project import named_models
from rau.search import exported
from rau.search.calibrate import calibrate
from rau.search.model import Query
from rau.search.searcher import Searcher
from rau.search.served import ServedSearch
from tests import sentence_models
from tests.search.synthetic import CPU, draw, draw_folder, load_model, make_index, query_row
from tests.server import free_port

NAME, ALIAS = "rau-search", "champion"
COUNT = 12


@pytest.fixture(name="index", scope="module")
def _index(encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("exported")
    model = load_model(root / "head", encoder_folder)
    paths = draw_folder(root / "pictures", COUNT)
    index = make_index(root / "index", root / "pictures", model)
    pairs = [(one, other) for one in paths for other in paths if one != other]
    queries = [query_row(f"{one} {other}", one, other, ["is red"]) for one, other in pairs]
    calibrate(Searcher.open(index, CPU), queries)
    return index


@pytest.fixture(name="store", scope="module")
def _store(index: Path) -> str:
    """A store with the model, registered."""
    root = index.parent
    uri = f"sqlite:///{root / 'mlflow.db'}"
    exported.log(index, uri, root / "mlruns", None, NAME, ALIAS, False)
    return uri


def test_the_model_is_code_and_files_of_a_run(store: str, index: Path) -> None:
    client = MlflowClient(store)
    run = client.get_run(str(client.get_model_version_by_alias(NAME, ALIAS).run_id))
    assert run.info.run_name.startswith("search over ")
    (folder,) = (index.parent / "mlruns").glob("models/*/artifacts")
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pyc")]
    assert (folder / "code/rau/search/searcher.py").is_file()
    pinned = (folder / "requirements.txt").read_text().split()
    assert pinned
    assert all("==" in line for line in pinned)


@pytest.fixture(name="served", scope="module")
def _served(store: str) -> Iterator[str]:
    """MLflow's server of the model."""
    port = free_port()
    environment = os.environ | {"MLFLOW_TRACKING_URI": store}
    command = ["mlflow", "models", "serve", "-m", f"models:/{NAME}@{ALIAS}", "-p", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", *command, "--env-manager", "local", "--workers", "1"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None
            try:
                urllib.request.urlopen(f"{address}/ping")
                break
            except OSError:
                time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait()


def ask(address: str, rows: list[dict[str, str]], **params: Any) -> Any:
    body = json.dumps({"dataframe_records": rows, "params": params}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/invocations", body, headers)
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)["predictions"]


def test_the_server_answers_as_the_search_does(served: str, index: Path, tmp_path: Path) -> None:
    draw(tmp_path / "new.png", 99)
    picture = (tmp_path / "new.png").read_bytes()
    rows = [
        {"image": "a/000.png", "caption": "is red"},
        {"image": base64.b64encode(picture).decode(), "caption": "is red"},
        {"caption": "a red one"},
    ]
    found = ask(served, rows, k=3)
    assert [reply["confidence_unavailable"] is None for reply in found] == [True, True, False]
    searcher = Searcher.open(index, CPU)
    known = searcher.reference("a/000.png")
    queries = [
        (Query([known], "is red"), ["a/000.png"]),
        (Query([searcher.reference(picture)], "is red"), []),
        (Query([], "a red one"), []),
    ]
    for reply, (query, left_out) in zip(found, queries, strict=True):
        answer = searcher.search(query, 3, None, left_out)
        assert reply["ids"] == [hit.id for hit in answer.hits]
        assert reply["scores"] == pytest.approx([hit.score for hit in answer.hits], abs=1e-4)
        assert reply["confidence_unavailable"] == answer.confidence_unavailable
        sure = answer.confidence
        within = {} if sure is None else {str(k): p for k, p in sure.probability_at_k.items()}
        assert reply["probability_at_k"] == pytest.approx(within, abs=1e-4)
        assert reply["prediction_set_size"] == (None if sure is None else sure.prediction_set_size)
    assert found[0] != found[1]


def test_what_cannot_be_answered_is_said(served: str) -> None:
    for row, message in (
        (
            {"image": "nonsense!", "caption": "is red"},
            "neither an id of the index nor a base64-encoded file",
        ),
        ({"image": base64.b64encode(b"text").decode()}, "not an image of a known format"),
        ({}, "the query is empty"),
    ):
        with pytest.raises(urllib.error.HTTPError) as caught:
            ask(served, [row or {"caption": ""}])
        assert caught.value.code == 400
        assert message in caught.value.read().decode()


@pytest.mark.parametrize("image", ["Kleid-grün", "nonsense!"])
def test_an_id_that_is_unknown_is_refused_with_its_row(index: Path, image: str) -> None:
    served = ServedSearch()
    served.searcher = Searcher.open(index, CPU)
    rows = pd.DataFrame([{"image": "a/000.png", "caption": "is red"}, {"image": image}])
    with pytest.raises(MlflowException, match=rf"row 1: image: '{image}' is neither an id"):
        served.predict(None, rows)


@pytest.mark.parametrize(
    ("engine", "encoder", "own"),
    [
        ("exact", "small", []),
        ("lancedb", "small", ["lancedb"]),
        ("exact", "st:org/model", ["sentence-transformers", "transformers"]),
    ],
)
def test_what_answering_imports_is_required(
    monkeypatch: pytest.MonkeyPatch, engine: str, encoder: str, own: list[str]
) -> None:
    from types import SimpleNamespace as Some

    from rau.search import served

    monkeypatch.setattr(served, "version", lambda _: "1.0")
    searcher: Any = Some(
        index=Some(manifest=Some(engine=engine)), model=Some(encoder=Some(name=encoder))
    )
    required = served.requirements(searcher)
    assert [line.split("==")[0] for line in required[len(served.PACKAGES) :]] == own


def answers(uri: str) -> int:
    """How many pictures the registered model answers with where two are asked for."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        model = mlflow.pyfunc.load_model(f"models:/{NAME}@{ALIAS}")
    finally:
        mlflow.set_tracking_uri(before)
    found = model.predict(pd.DataFrame([{"image": "a/000.png", "caption": "is red"}]), {"k": 2})
    return len(found["ids"][0])


def test_a_registered_model_is_found_by_its_name(
    store: str, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.chdir(tmp_path)
    own = Searcher.open(index, CPU).model.key
    for name in (f"models:/{NAME}@{ALIAS}", f"models:/{NAME}/1"):
        with named_models.opened(name, CPU) as model:
            assert model.key == own
    head = named_models.head(name, tmp_path)
    assert (head.folder / WEIGHTS).read_bytes() == (index.parent / "head" / WEIGHTS).read_bytes()
    for at in (f"{NAME}@nobody", f"{NAME}/2", "nothing/1", NAME, f"{NAME}/1/..", ""):
        with pytest.raises(UserError, match="MLflow has no such model"):
            named_models.resolve(f"models:/{at}", tmp_path)


def test_a_model_by_reference_reads_the_index_where_it_is(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    run = tracking.track(tracking.Record("d", "a run", {}, {}), uri, tmp_path / "mlruns")[0]
    logged = exported.log(index, uri, tmp_path / "mlruns", run, NAME, ALIAS, True)
    assert logged == tracking.LoggedModel(run, 1)
    assert not list((tmp_path / "mlruns").rglob("index.json"))
    assert answers(uri) == 2
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match="it carries no files"):
        named_models.resolve(f"models:/{NAME}@{ALIAS}", tmp_path)
    with pytest.raises(tracking.TrackingUnavailable, match="0123"):
        exported.log(index, uri, tmp_path / "mlruns", "0123" * 8, NAME, ALIAS, True)


def test_code_of_an_encoder_is_trusted_once_and_for_all(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="needs the extra rau[st]")
    sentence_models.add_code(sentence_models.blip(tmp_path / "own"))
    params = EncoderParams(name="st:own", trust_remote_code=True)
    sentence_export.export(params, tmp_path / "encoder", tmp_path)
    draw_folder(tmp_path / "pictures", 4)
    model = load_model(tmp_path / "head", tmp_path / "encoder", trust=True)
    index = make_index(tmp_path / "index", tmp_path / "pictures", model)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    log = partial(exported.log, index, uri, tmp_path / "mlruns", None, NAME, ALIAS)
    with pytest.raises(UserError, match="brings code of its own"):
        log(False)
    for by_reference in (False, True):
        log(by_reference, trust_remote_code=True)
        assert answers(uri) == 2
