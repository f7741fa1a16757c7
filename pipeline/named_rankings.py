"""Rankings named by the user: a file, an MLflow run, a DVC experiment or a git revision."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import workspace
from rau import plain_yaml
from rau.errors import UserError

RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Found:
    """A rankings file, and the MLflow run or the revision that it belongs to."""

    path: Path
    run: str | None = None
    revision: str | None = None


def resolve(name: str, into: Path) -> Found:
    """Find rankings: a file, then an MLflow run, then a DVC experiment or git revision.

    Args:
        name: what the user named.
        into: folder for a copy.

    Raises:
        UserError: when it is none of them, or has no rankings.
    """
    if Path(name).is_file():
        return Found(Path(name))
    if RUN_ID.fullmatch(name) and (copy := _from_run(name, into)):
        return Found(copy, run=name)
    if cached := _from_revision(name, into):
        return Found(cached, revision=name)
    raise UserError(
        f"{name}: no file, no MLflow run id, no DVC experiment and no git revision of this "
        "project has this name; see `dvc exp show` and the MLflow page"
    )


def _from_run(run: str, into: Path) -> Path | None:
    """A copy of the rankings of an MLflow run, None when there is no such run."""
    from rau import tracking
    from rau.evaluation.comparison import MAX_BYTES

    uri = tracking.store_uri(workspace.main_checkout())
    try:
        return tracking.fetch_artifact(uri, run, "rankings", ".parquet", into, MAX_BYTES)
    except tracking.TrackingUnavailable as error:
        raise UserError(f"{run}: {error}; name a file or a DVC experiment instead") from error


def _from_revision(name: str, into: Path) -> Path | None:
    """The rankings of a revision, from the main checkout's cache; None for no such revision."""
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.scm import SCMError

    try:
        files = DVCFileSystem(str(workspace.main_checkout()), rev=name)
        path = workspace.rankings(_dataset(files, name))
        info = files.info(path.as_posix())
    except (SCMError, NotDvcRepoError):
        return None
    except FileNotFoundError as error:
        raise UserError(f"{name}: no rankings there; run `dvc repro` there and commit") from error
    except DvcException as error:
        raise UserError(f"{name}: DVC cannot read it ({error}); name a file instead") from error
    if "md5" not in info:
        files.get_file(path.as_posix(), str(into / path.name))
        return into / path.name
    # DVC would query a remote too; the cache needs no network.
    cached = Path(files.repo.cache.local.oid_to_path(info["md5"]))
    if not cached.is_file():
        raise UserError(
            f"{name}: its {path} is not in DVC's cache; run `dvc fetch`, or the experiment again"
        )
    return cached


def _dataset(files: Any, name: str) -> str:
    """The data set of a revision's parameters, else that of the working folder."""
    try:
        content = files.cat_file("params.yaml")
        return str(plain_yaml.parse(content, f"{name}: its params.yaml")["dataset"]["name"])
    except (FileNotFoundError, KeyError, TypeError):
        return workspace.load_params().dataset.name
