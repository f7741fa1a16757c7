"""Runs in MLflow; the only module that writes to it.

A run is identified by the digest of its parameters and results, so that it is never tracked twice.
The store is a database file or given by `MLFLOW_TRACKING_URI`; the experiment is `rau` or given by
`MLFLOW_EXPERIMENT_ID` or `MLFLOW_EXPERIMENT_NAME`. Every function that takes the URI of a store
raises `TrackingUnavailable` if the store does not respond or cannot be used.
"""

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from rau import mlflow_view
from rau.errors import UserError
from rau.files import atomic_path
from rau.mlflow_client import SQLITE, Client, NotFound, database_file, shown
from rau.mlflow_client import TrackingUnavailable as TrackingUnavailable
from rau.mlflow_client import store_uri as store_uri
from rau.progress import tqdm

DIGEST = "rau.digest"
COMPLETE = "rau.complete"
MODEL = "rau.model"
PARENT = "mlflow.parentRunId"
EXPERIMENT = "rau"
REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(/(?P<version>\d+)|@(?P<alias>[\w-]+))")
BATCH = 500


@dataclass(frozen=True)
class Data:
    """A data set that a run used: its name, the digest of its queries, and its purpose."""

    name: str
    digest: str
    source: str
    context: str


@dataclass(frozen=True)
class Record:
    """Everything that is tracked for a run.

    Attributes:
        digest: of parameters and results.
        params: flat, by dotted name.
        metrics: final values by name.
        history: (name, epoch, value).
        tags: by name.
        artifacts: target folder by file or folder.
        seconds: duration of the run.
        ended: end of the run, in seconds since 1970; None for now.
        data: the data set that it used, if any.
        model: name and folder of the model that it trained, if any.
    """

    digest: str
    name: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    history: Sequence[tuple[str, int, float]] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: Mapping[Path, str] = field(default_factory=dict)
    seconds: float = 0.0
    ended: float | None = None
    data: Data | None = None
    model: tuple[str, Path] | None = None


@contextmanager
def _opened(uri: str, artifacts: Path) -> Iterator[tuple[Client, str]]:
    """A client and the experiment's id, for one process of this machine at a time.

    Two processes that create a database concurrently break it; two that look for the same run
    would both create it.
    """
    database = database_file(uri)
    lock = f"{database or artifacts.with_name('mlflow.db')}.lock"
    try:
        held = FileLock(lock).acquire()
    except OSError as error:
        raise TrackingUnavailable(f"{lock} cannot be locked ({error.strerror})") from error
    with held:
        if database and not database.exists():
            # Under a temporary name, because a partially created database stays broken.
            with atomic_path(database) as temporary:
                Client(f"{SQLITE}{temporary}")
        client = Client(uri)
        place = artifacts.resolve().as_uri() if database else None
        experiment = _experiment(client) or client.create_experiment(_name(), place)
        _describe(client, experiment)
        yield client, experiment


def _describe(client: Client, experiment: str) -> None:
    """Set the tags of the experiment that MLflow's page reads, unless it has them."""
    there = client.get_experiment(experiment).tags
    wanted = {
        "mlflow.experimentKind": "custom_model_development",  # Opens the table of runs first.
        mlflow_view.TAG: mlflow_view.tag_value(int(1000 * time.time())),
    }
    for name in wanted.keys() - there.keys():
        client.set_experiment_tag(experiment, name, wanted[name])


def _name() -> str:
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


def _experiment(client: Client) -> str | None:
    """The experiment's id; None if it does not exist; raises if it is deleted."""
    number = os.environ.get("MLFLOW_EXPERIMENT_ID")
    found = client.get_experiment(number) if number else client.get_experiment_by_name(_name())
    if found is not None and found.lifecycle_stage == "deleted":
        raise TrackingUnavailable(
            f"the experiment '{found.name}' is deleted; restore it with `MLFLOW_TRACKING_URI="
            f"{shown(client.uri)} mlflow experiments restore --experiment-id {found.experiment_id}`"
        )
    return found and str(found.experiment_id)


def track(
    record: Record, uri: str, artifacts: Path, children: Sequence[Record] = ()
) -> tuple[str, list[bool]]:
    """Create the run of a record and its nested runs. Incomplete runs are replaced, and nested runs
    whose parent was deleted are assigned to the new parent.

    Args:
        uri: of the MLflow store.
        artifacts: folder for artifacts if the store is a database file.
        children: records of the nested runs, tracked with a progress bar.

    Returns:
        The run id of the record, and whether each run was already tracked, the record's first.

    Raises:
        OSError: when an artifact is missing.
    """
    with _opened(uri, artifacts) as (client, experiment):
        run_id, known = _track(client, experiment, record)
        bar = tqdm(children, f"track {record.name}", unit="run", disable=not children)
        return run_id, [known, *(_track(client, experiment, child, run_id)[1] for child in bar)]


def _track(
    client: Client, experiment: str, record: Record, parent: str | None = None
) -> tuple[str, bool]:
    from mlflow.entities import Metric, Param

    sizes = {path: _size(path) for path in record.artifacts}
    found = client.search_runs([experiment], f"tags.`{DIGEST}` = '{record.digest}'")
    complete = [run for run in found if run.data.tags.get(COMPLETE) == "true"]
    for broken in {run.info.run_id for run in found} - {run.info.run_id for run in complete}:
        _delete(client, experiment, broken)  # Resuming it could log points twice.
    if complete:
        known: str = complete[0].info.run_id
        if parent is not None and complete[0].data.tags.get(PARENT) != parent:
            client.set_tag(known, PARENT, parent)  # The previous parent was deleted.
        return known, True
    tags = {**record.tags, DIGEST: record.digest, "mlflow.runName": record.name}
    if parent is not None:
        tags[PARENT] = parent
    now = int(1000 * (record.ended or time.time()))
    started = now - round(1000 * record.seconds)
    run_id: str = client.create_run(experiment, started, tags).info.run_id
    params = [Param(key, str(value)) for key, value in record.params.items()]
    client.log_batch(run_id, params=params)
    if record.data is not None:
        _log_data(client, run_id, record.data)
    points = [*((key, 0, value) for key, value in record.metrics.items()), *record.history]
    metrics = [Metric(_plain(key), value, now, step) for key, step, value in points]
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run_id, metrics[start : start + BATCH])
    for path, folder in record.artifacts.items():
        log = client.log_artifacts if path.is_dir() else client.log_artifact
        log(run_id, str(path), folder or None, size=sizes[path])
    if record.model is not None:
        _log_head(client, experiment, run_id, *record.model)
    client.set_terminated(run_id, "FINISHED", max(now, started))
    client.set_tag(run_id, COMPLETE, "true")
    return run_id, False


def _delete(client: Client, experiment: str, run_id: str) -> None:
    """Delete a run and the models it logged."""
    models = client.search_logged_models([experiment], f"source_run_id = '{run_id}'")
    for model in models:
        client.delete_logged_model(model.model_id)
    client.delete_run(run_id)


def _log_data(client: Client, run_id: str, data: Data) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(data.name, data.digest, "local", json.dumps({"uri": data.source}))
    context = [InputTag("mlflow.data.context", data.context)]
    client.log_inputs(run_id, [DatasetInput(dataset, context)])


def _log_head(client: Client, experiment: str, run_id: str, name: str, folder: Path) -> None:
    """Log the trained model for the column of the run and the page of models."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    made = client.create_logged_model(experiment, name, run_id, model_type="rau")
    client.log_model_artifacts(made.model_id, str(folder), size=_size(folder))
    client.finalize_logged_model(made.model_id, LoggedModelStatus.READY)
    client.log_outputs(run_id, [LoggedModelOutput(made.model_id, 0)])


def _plain(name: str) -> str:
    """A metric's name with only characters that MLflow accepts; a category may have any name."""
    return re.sub(r"[^\w/.\- :]", "_", name)


def _size(path: Path) -> int:
    """Size of a file or folder in bytes; raises if missing, which MLflow would log as empty."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def find_by_tag(uri: str, key: str, value: str) -> str | None:
    """The id of the newest run with this tag, or None."""
    if "'" in value:
        return None  # MLflow's filters have no escapes, and names of runs contain no quotes.
    try:
        client = Client(uri)
    except NotFound:
        return None
    experiment, query = _experiment(client), f"tags.`{key}` = '{value}'"
    found = client.search_runs([experiment], query, max_results=1) if experiment else []
    return found[0].info.run_id if found else None


def fetch_artifact(
    uri: str, run_id: str, folder: str, suffix: str, into: Path, limit: int
) -> Path | None:
    """Copy the only file with `suffix` in a run's artifact folder to the folder `into`.

    Args:
        limit: in bytes; a larger file is refused.

    Returns:
        The copy, or None if the run does not exist.

    Raises:
        UserError: when the run has no such file, several, or one that is too large.
    """
    try:
        client = Client(uri)
        listed = client.list_artifacts(run_id, folder)
    except NotFound:
        return None
    files = [file for file in listed if not file.is_dir and file.path.endswith(suffix)]
    where = f"MLflow run {run_id}: {folder}/*{suffix}"
    if len(files) != 1:
        raise UserError(f"{where}: {len(files)} files instead of one; choose another run")
    # Only its name: an untrusted server may list paths outside the folder.
    path, size = f"{folder}/{PurePosixPath(files[0].path).name}", files[0].file_size or 0
    if size <= limit:
        copy = Path(client.download_artifacts(run_id, path, str(into), size=size or limit))
        # Not every store reports the size of a file.
        if copy.stat().st_size <= limit:
            return copy
    raise UserError(f"{where}: larger than {limit} bytes; choose another run")


def fetch_from_model(uri: str, model: str, names: Sequence[str], into: Path, limit: int) -> bool:
    """Copy what lies in the one folder that a registered model carries to the folder `into`.

    Args:
        model: `models:/<name>/<version>` or `models:/<name>@<alias>`.
        names: of files and folders there.
        limit: of each in bytes, for the time that its copy may take.

    Returns:
        Whether there is such a model.

    Raises:
        UserError: when it carries no folder, as a model that refers to files elsewhere.
    """
    from mlflow import artifacts

    named = REGISTERED.fullmatch(model)
    if named is None:
        return False
    try:
        client = Client(uri)
        aliases = client.get_registered_model(named["name"]).aliases
        version = named["version"] or aliases.get(named["alias"])
        if version is None:
            return False
        place = client.get_model_version_download_uri(named["name"], str(version))
    except NotFound:
        return False
    inside = f"{place}/artifacts"
    listed = client._call(artifacts.list_artifacts, inside, tracking_uri=uri)
    folders = [PurePosixPath(file.path).name for file in listed if file.is_dir]
    if len(folders) != 1:
        raise UserError(f"{model}: it carries no files (--by-reference); name what made them")
    for name in names:
        where = f"{inside}/{folders[0]}/{name}"
        fetch = partial(artifacts.download_artifacts, where, dst_path=str(into), tracking_uri=uri)
        client._call(fetch, size=limit)
    return True


def attach(uri: str, run_id: str, files: Path, folder: str) -> None:
    """Log the files of a folder as artifacts of a run, under `folder`."""
    Client(uri).log_artifacts(run_id, str(files), folder, size=_size(files))


def tag(uri: str, run: str, key: str) -> str | None:
    """The tag of a run with this name, or None."""
    value: str | None = Client(uri).get_run(run).data.tags.get(key)
    return value


@dataclass(frozen=True)
class LoggedModel:
    """A model in the registry and its run."""

    run: str
    version: int


def log_model(
    uri: str,
    artifacts: Path,
    run: str | None,
    run_name: str,
    registered: tuple[str, str],
    model: Mapping[str, Any],
    files: Path,
) -> LoggedModel:
    """Log a pyfunc model to a run and register it.

    Args:
        artifacts: folder for artifacts where the store is a database file.
        run: id; None for a new run named `run_name`.
        registered: name and alias in the registry.
        model: arguments of `mlflow.pyfunc.log_model`.
        files: artifacts of the model.
    """
    name, alias = registered
    with _opened(uri, artifacts) as (client, experiment):
        if run is None:
            run = str(client.create_run(experiment, tags={"mlflow.runName": run_name}).info.run_id)
        info = client.get_run(run).info
        try:
            version = int(client._call(_log_model, uri, run, name, model, size=_size(files)))
        finally:
            if info.end_time is not None:  # MLflow ends the run anew, now.
                client.set_terminated(run, info.status, info.end_time)
        client.set_registered_model_alias(name, alias, version)
        client.set_tag(run, MODEL, f"{name}/{version}")
    return LoggedModel(run, version)


def _log_model(uri: str, run: str, registered: str, model: Mapping[str, Any]) -> Any:
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        with mlflow.start_run(run_id=run):
            found = mlflow.pyfunc.log_model(
                name="search", registered_model_name=registered, **model
            )
    finally:
        mlflow.set_tracking_uri(before)
    return found.registered_model_version
