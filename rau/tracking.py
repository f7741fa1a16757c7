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
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from rau.errors import UserError

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
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
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


@contextmanager
def _answering(uri: str) -> Iterator[None]:
    """Turn whatever a store fails with into `TrackingUnavailable`."""
    try:
        yield
    except (TrackingUnavailable, UserError):
        raise
    except Exception as error:
        # MLflow, SQLAlchemy, drivers and sockets share no class, and none may stop a finished run.
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise TrackingUnavailable(f"MLflow at {shown(uri)} does not answer ({reason})") from error


def store_uri(root: Path) -> str:
    """The store that the environment names, by default the database in `root`."""
    return absolute(os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}mlflow.db", root)


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
    with _answering(uri):
        client, experiment = _prepare(uri, artifacts)
        return _track(client, experiment, record, None)


def track_study(
    parent: Record, children: Sequence[Record], uri: str, artifacts: Path
) -> tuple[str, int]:
    """Create or complete a study's run and the runs nested in it, with a progress bar.

    Args:
        uri, artifacts: as in `track`.

    Returns:
        The parent's id, and how many of the nested runs were complete before.

    Raises:
        TrackingUnavailable: when the store does not answer.
    """
    with _answering(uri):
        client, experiment = _prepare(uri, artifacts)
        run_id, _ = _track(client, experiment, parent, None)
        known = 0
        for child in tqdm(children, desc=f"track {parent.name}", unit="run"):
            known += _track(client, experiment, child, run_id)[1]
        return run_id, known


def _track(client: Any, experiment: str, record: Record, parent: str | None) -> tuple[str, bool]:
    """`track` in an open store, nested where there is a parent."""
    query = f"tags.`{DIGEST}` = '{record.digest}'"
    found = client.search_runs([experiment], query, max_results=1)
    if found and found[0].data.tags.get(COMPLETE) == "true":
        return str(found[0].info.run_id), True
    tags = {DIGEST: record.digest, "mlflow.runName": record.name}
    if parent is not None:
        tags["mlflow.parentRunId"] = parent
    run_id = str(
        found[0].info.run_id if found else client.create_run(experiment, tags=tags).info.run_id
    )
    _log(client, run_id, record)
    return run_id, False


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


def find_by_tag(uri: str, key: str, value: str) -> str | None:
    """The id of the newest run with this tag, or None.

    Raises:
        TrackingUnavailable: when the store does not answer.
    """
    # MLflow's filters know no escapes; nothing that names a run has a quote in it.
    if "'" in value or not _exists(uri):
        return None
    with _answering(uri):
        client = _client(uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return None
        found = client.search_runs(
            [experiment.experiment_id],
            f"tags.`{key}` = '{value}'",
            max_results=1,
            order_by=["attributes.start_time DESC"],
        )
        return str(found[0].info.run_id) if found else None


def fetch_artifact(
    uri: str, run_id: str, folder: str, suffix: str, into: Path, limit: int
) -> Path | None:
    """Copy the one file of a run's artifact folder that ends in `suffix` to the folder `into`.

    Args:
        limit: in bytes; a larger file is refused.

    Returns:
        The copy, or None when there is no such run.

    Raises:
        UserError: when the run has no such file, several, or one that is too large.
        TrackingUnavailable: when the store does not answer.
    """
    if not _exists(uri):
        return None
    with _answering(uri):
        from mlflow.exceptions import MlflowException

        client = _client(uri)
        try:
            listed = client.list_artifacts(run_id, folder)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        files = [f for f in listed if not f.is_dir and f.path.endswith(suffix)]
        where = f"MLflow run {run_id}: {folder}/*{suffix}"
        if len(files) != 1:
            raise UserError(f"{where}: {len(files)} files, not one; name another run")
        path = PurePosixPath(files[0].path)
        if path.parent != PurePosixPath(folder):
            raise UserError(f"{where}: {path} lies outside that folder; name another run")
        too_large = f"{where}: larger than {limit} bytes; name another run"
        if (files[0].file_size or 0) > limit:
            raise UserError(too_large)
        copy = Path(client.download_artifacts(run_id, str(path), str(into)))
        # Not every store says a file's size beforehand.
        if copy.stat().st_size > limit:
            raise UserError(too_large)
        return copy


def attach(uri: str, run_id: str, files: Path, folder: str) -> None:
    """Put a folder's files among a run's artifacts, under `folder`.

    Raises:
        TrackingUnavailable: when the store does not answer.
    """
    with _answering(uri):
        _client(uri).log_artifacts(run_id, str(files), folder)


def _exists(uri: str) -> bool:
    """Whether there can be a store: MLflow would make an empty database of a missing file."""
    return not uri.startswith(SQLITE) or Path(uri.removeprefix(SQLITE)).is_file()
