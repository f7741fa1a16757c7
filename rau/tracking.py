"""Runs in MLflow; the one module that knows it.

A run is found again by the digest of its parameters and results, so that tracking twice completes
a run and never doubles it.
"""

import fcntl
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DIGEST = "rau.digest"
COMPLETE = "rau.complete"
EXPERIMENT = "rau"
BATCH = 500
SQLITE = "sqlite:///"


class TrackingUnavailable(Exception):
    """The MLflow store does not answer or cannot be used; the run can be tracked later."""


@dataclass(frozen=True)
class Record:
    """All that is tracked of a run.

    Attributes:
        digest: of parameters and results.
        params: flat, by dotted name.
        metrics: final values by name.
        course: (name, epoch, value).
        tags: by name.
        artifacts: files or folders, by the folder they go to.
    """

    digest: str
    name: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    course: Sequence[tuple[str, int, float]] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: Mapping[Path, str] = field(default_factory=dict)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _client(uri: str) -> Any:
    """A client that gives up after seconds rather than minutes."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    return MlflowClient(uri)


def _prepare(uri: str, artifacts: Path) -> tuple[Any, str]:
    """A client and the experiment's id; database and experiment are made by one process only."""
    if not uri.startswith(SQLITE):
        client = _client(uri)
        return client, _experiment(client, None)
    database = Path(uri.removeprefix(SQLITE))
    with _locked(database.with_name(f"{database.name}.lock")):
        if not database.exists():
            _create(database)
        client = _client(uri)
        return client, _experiment(client, artifacts.resolve().as_uri())


def _create(database: Path) -> None:
    """Make an empty store under a temporary name: one that was cut short would stay broken."""
    temporary = database.with_name(f"{database.name}.new")
    temporary.unlink(missing_ok=True)
    made = subprocess.run(
        [sys.executable, "-m", "mlflow", "db", "upgrade", f"{SQLITE}{temporary}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        temporary.unlink(missing_ok=True)
        last = made.stderr.strip().splitlines()[-1:]
        raise TrackingUnavailable(f"{database} cannot be created: {''.join(last)}")
    temporary.replace(database)


def absolute(uri: str, root: Path) -> str:
    """A store's URI, its file relative to `root` rather than to the working folder."""
    return f"{SQLITE}{root / uri.removeprefix(SQLITE)}" if uri.startswith(SQLITE) else uri


def shown(uri: str) -> str:
    """A store's URI without the user's name and password."""
    return re.sub(r"//[^/@]*@", "//", uri)


def _experiment(client: Any, location: str | None) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    # The tag lets MLflow's page open on its classic run table.
    kind = {"mlflow.experimentKind": "custom_model_development"}
    return str(client.create_experiment(EXPERIMENT, artifact_location=location, tags=kind))


def track(record: Record, uri: str, artifacts: Path) -> tuple[str, bool]:
    """Create or complete the run of a record.

    Args:
        uri: of the MLflow store.
        artifacts: folder for artifacts where the store is a database file.

    Returns:
        The run's id, and whether it was complete before.

    Raises:
        TrackingUnavailable: when the store does not answer.
    """
    try:
        client, experiment = _prepare(uri, artifacts)
        query = f"tags.`{DIGEST}` = '{record.digest}'"
        found = client.search_runs([experiment], query, max_results=1)
        if found and found[0].data.tags.get(COMPLETE) == "true":
            return str(found[0].info.run_id), True
        tags = {DIGEST: record.digest, "mlflow.runName": record.name}
        run_id = str(
            found[0].info.run_id if found else client.create_run(experiment, tags=tags).info.run_id
        )
        _log(client, run_id, record)
        return run_id, False
    except TrackingUnavailable:
        raise
    except Exception as error:
        # MLflow, SQLAlchemy, drivers and sockets share no class, and none may stop a finished run.
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise TrackingUnavailable(f"MLflow at {shown(uri)} does not answer ({reason})") from error


def _log(client: Any, run_id: str, record: Record) -> None:
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    params = [Param(key, str(value)) for key, value in record.params.items()]
    tags = [RunTag(key, value) for key, value in record.tags.items()]
    metrics = [Metric(key, value, now, 0) for key, value in record.metrics.items()]
    metrics += [Metric(key, value, now, step) for key, step, value in record.course]
    client.log_batch(run_id, params=params, tags=tags)
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + BATCH])
    for path, folder in record.artifacts.items():
        if path.is_dir():
            client.log_artifacts(run_id, str(path), folder or None)
        else:
            client.log_artifact(run_id, str(path), folder or None)
    client.set_terminated(run_id, "FINISHED")
    client.set_tag(run_id, COMPLETE, "true")
