"""Rankings named by the user: a file, an MLflow run, a DVC experiment or a git revision."""

import re
from dataclasses import dataclass
from pathlib import Path

from rau.errors import UserError
from rau.project import workspace
from rau.project.revisions import Revision, unknown

RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Found:
    """A rankings file, and its MLflow run or revision."""

    path: Path
    run: str | None = None
    revision: str | None = None


def resolve(name: str, into: Path) -> Found:
    """Find rankings: a file, then an MLflow run, then a DVC experiment or git revision.

    Args:
        name: the user's name.
        into: folder for a copy.

    Raises:
        UserError: when nothing has this name, or it has no rankings.
    """
    if Path(name).is_file():
        return Found(Path(name))
    if RUN_ID.fullmatch(name) and (copy := _from_run(name, into)):
        return Found(copy, run=name)
    if revision := Revision.find(name):
        path = revision.file(workspace.rankings(revision.dataset()), into)
        return Found(path, revision=name)
    raise unknown(name, "file")


def _from_run(run: str, into: Path) -> Path | None:
    """Copy the rankings of an MLflow run; None if there is no such run."""
    from rau import tracking
    from rau.evaluation.ranked_side import MAX_BYTES

    uri = tracking.store_uri(workspace.main_checkout())
    try:
        return tracking.fetch_artifact(uri, run, "rankings", ".parquet", into, MAX_BYTES)
    except tracking.TrackingUnavailable as error:
        raise UserError(f"{run}: {error}; name a file or a DVC experiment instead") from error
