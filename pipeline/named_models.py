"""Models named by the user: a folder, an MLflow run, a DVC experiment or a git revision."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline import workspace
from pipeline.named_rankings import RUN_ID
from pipeline.revisions import Revision
from rau import params as parameters
from rau.errors import UserError

MAX_BYTES = 2**32
NO_ENCODER = (
    "features.source names features, not an encoder: neither a picture nor a caption has a feature"
)


@dataclass(frozen=True)
class Found:
    """Folders of an encoder and of the head that was trained on its features."""

    encoder: Path
    head: Path


def resolve(name: str, into: Path) -> Found:
    """Find a model: a project's folder, then an MLflow run, a DVC experiment or a git revision.

    Args:
        name: what the user named.
        into: folder for copies.

    Raises:
        UserError: when it is none of them, or has no model.
    """
    if (Path(name) / workspace.PARAMS).is_file():
        return _of_project(Path(name))
    if RUN_ID.fullmatch(name) and (found := _of_run(name, into)):
        return found
    if revision := Revision.find(name):
        return _of_revision(revision, into)
    raise UserError(
        f"{name}: no project's folder, no MLflow run id, no DVC experiment and no git revision of "
        "this project has this name; see `dvc exp show` and the MLflow page"
    )


def _of_project(root: Path) -> Found:
    params = parameters.load(root / workspace.PARAMS)
    if params.features.source is not None:
        raise UserError(NO_ENCODER)
    name = params.dataset.name
    return Found(workspace.encoder(name, root), root / workspace.model(name))


def _of_revision(revision: Revision, into: Path) -> Found:
    name = revision.dataset()
    head = revision.folder(workspace.model(name), into)
    revision.folder(workspace.finetuned(name), into)
    encoder = workspace.encoder(name, into)
    if encoder == into / workspace.ENCODER:
        revision.folder(workspace.ENCODER, into)
    return Found(encoder, head)


def _of_run(run: str, into: Path) -> Found | None:
    """The head of an MLflow run with its encoder, which is not among the run's artifacts: one of
    this project's that has its key. None where there is no such run."""
    from rau import tracking
    from rau.models import checkpoint

    uri = tracking.store_uri(workspace.main_checkout())
    head = into / "head"
    head.mkdir()
    try:
        if not tracking.fetch_artifact(uri, run, "model", workspace.WEIGHTS, head, MAX_BYTES):
            return None
    except tracking.TrackingUnavailable as error:
        raise UserError(f"{run}: {error}; name a folder or a revision instead") from error
    folder = next(head.rglob(workspace.WEIGHTS)).parent
    key = checkpoint.load(folder, "cpu")[1]["features"]["key"]
    for encoder in _encoders():
        with suppress(UserError):
            if _key(encoder) == key:
                return Found(encoder, folder)
    raise UserError(
        f"{run}: its encoder (key {key}) is not in this folder; check out the run's commit, or "
        "name the revision instead"
    )


def _encoders() -> Iterator[Path]:
    """Every encoder of the working folder and of the shared store."""
    from rau.finetuning import record

    yield workspace.ENCODER
    for place in (workspace.finetuned("x").parent, workspace.parts() / "finetuned"):
        yield from sorted(place.glob(f"*/{record.ENCODER}"))


def _key(encoder: Path) -> str:
    import torch

    from rau.encoders.encoder import load

    return load(encoder, torch.device("cpu")).key
