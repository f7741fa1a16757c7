"""Models named by the user: a folder, an MLflow run or model, a DVC experiment, a git revision."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Self

from rau import params as parameters
from rau.errors import UserError
from rau.files import user_path
from rau.project import workspace
from rau.project.named_rankings import RUN_ID
from rau.project.revisions import Revision, unknown

if TYPE_CHECKING:
    import torch

    from rau.search.model import Model

MAX_BYTES = 2**32
REGISTRY = "models:/"
NO_ENCODER = (
    "features.source names features, not an encoder: neither an image nor a caption has a feature"
)
SAME_ENCODER = (
    "a head needs its own encoder: set encoder.name (local-dir:… of one that was fine-tuned) and "
    "finetune.towers=none"
)


@dataclass(frozen=True)
class Head:
    """Folders of a trained head and, if known, of the deterministic head next to it."""

    folder: Path
    deterministic: Path | None

    @classmethod
    def of(cls, folder: Path) -> Self:
        """The head in a folder, with the deterministic head next to it, if any."""
        beside = folder.with_name(workspace.deterministic(folder.name).name)
        return cls(folder, beside if (beside / workspace.WEIGHTS).is_file() else None)


@dataclass(frozen=True)
class Found:
    """Folders of an encoder and of the head that was trained on its features."""

    encoder: Path
    head: Path


def resolve(name: str, into: Path, trust_remote_code: bool = False) -> Found:
    """Find a model: a project's folder, then an MLflow run, a DVC experiment or a git revision.

    Args:
        name: the user's name; `models:/…` is a search that `rau export` registered.
        into: folder for copies.
        trust_remote_code: see `encoder.trust_remote_code`.

    Raises:
        UserError: when nothing has this name, or it has no model.
    """
    if (Path(name) / workspace.PARAMS).is_file():
        return _of_project(Path(name))
    if name.startswith(REGISTRY):
        return _of_registry(name, into)
    if RUN_ID.fullmatch(name) and (found := _of_run(name, into, trust_remote_code)):
        return found
    if revision := Revision.find(name):
        return _of_revision(revision, into)
    raise unknown(name, "project's folder")


@contextmanager
def opened(name: str, device: "torch.device", trust_remote_code: bool = False) -> "Iterator[Model]":
    """Load a model that `resolve` finds; its folders exist until the end of the block.

    Args:
        trust_remote_code: see `encoder.trust_remote_code`.

    Raises:
        UserError: as in `resolve`, or when the model is damaged.
    """
    from rau.search.model import Model

    with TemporaryDirectory() as temporary:
        place = resolve(name, Path(temporary), trust_remote_code)
        yield Model.load(place.encoder, place.head, device, trust_remote_code)


def head(name: str, into: Path) -> Head:
    """Find a head without its encoder, also in its own folder; otherwise like `resolve`."""
    place = user_path(name, workspace.main_checkout(), "train.head")
    if (place / workspace.PARAMS).is_file():
        dataset = parameters.load(place / workspace.PARAMS).dataset.name
        return Head.of(place / workspace.model(dataset))
    if (place / workspace.WEIGHTS).is_file():
        return Head.of(place)
    if name.startswith(REGISTRY):
        return Head(_of_registry(name, into).head, None)
    if RUN_ID.fullmatch(name) and (folder := _head_of_run(name, into)):
        return Head(folder, None)
    if revision := Revision.find(name):
        folder = revision.folder(workspace.model(revision.dataset()), into)
        with suppress(UserError):  # Older revisions may not have it.
            revision.folder(workspace.deterministic(revision.dataset()), into)
        return Head.of(folder)
    raise unknown(name, "project's folder")


def check_encoder(name: str) -> None:
    """Check that a head was trained with the working folder's encoder, before anything is encoded.

    Raises:
        UserError: when it was trained with another encoder, or does not exist.
    """
    from rau.evaluation import head_record

    with TemporaryDirectory() as temporary:
        folder = head(name, Path(temporary)).folder
        found = head_record.read(folder, "cpu", "train it again")[1].features
    trust = workspace.params_or_defaults().encoder.trust_remote_code
    own = _key(workspace.ENCODER, trust)
    if found.get("key") != own:
        raise UserError(
            f"train.head={name}: it was trained on features of {found.get('encoder')} (key "
            f"{found.get('key')}), data/encoder has the key {own}; {SAME_ENCODER}"
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


def _of_registry(name: str, into: Path) -> Found:
    """Fetch the encoder and the head in the index of a registered search."""
    from rau import tracking
    from rau.search import index, model

    uri = tracking.store_uri(workspace.main_checkout())
    parts = (index.MANIFEST, index.MODELS)
    try:
        there = tracking.fetch_from_model(uri, name, parts, into, MAX_BYTES)
    except tracking.TrackingUnavailable as error:
        raise UserError(f"{name}: {error}; name a folder or a revision instead") from error
    if not there:
        raise UserError(
            f"{name}: MLflow has no such model; name one as {REGISTRY}NAME/VERSION or "
            f"{REGISTRY}NAME@ALIAS, as `rau export` prints it"
        )
    head = into / index.MODELS / index.read_manifest(into).model
    return Found(head / model.ENCODER, head)


def _of_run(run: str, into: Path, trust_remote_code: bool) -> Found | None:
    """Find the head of an MLflow run and its encoder; None if there is no such run.

    The encoder is not an artifact of the run: it is the project's encoder with the same key.
    """
    from rau.evaluation import head_record

    folder = _head_of_run(run, into)
    if folder is None:
        return None
    key = head_record.read(folder, "cpu", "name another run")[1].features.get("key")
    for encoder in _encoders():
        with suppress(UserError):
            if _key(encoder, trust_remote_code) == key:
                return Found(encoder, folder)
    raise UserError(
        f"{run}: its encoder (key {key}) is not in this folder; check out the run's commit, or "
        "name the revision instead"
    )


def _head_of_run(run: str, into: Path) -> Path | None:
    """Copy the head of an MLflow run, and its text map if any; None if there is no such run."""
    from rau import tracking
    from rau.models import checkpoint

    uri = tracking.store_uri(workspace.main_checkout())
    place = into / "head"
    place.mkdir()

    def fetch(name: str) -> Path | None:
        return tracking.fetch_artifact(uri, run, "model", name, place, MAX_BYTES)

    try:
        weights = fetch(workspace.WEIGHTS)
        if weights is None:
            return None
        if not checkpoint.load(weights.parent, "cpu")[0].config.shared_space:
            fetch(workspace.TEXT_MAP)
    except tracking.TrackingUnavailable as error:
        raise UserError(f"{run}: {error}; name a folder or a revision instead") from error
    return weights.parent


def _encoders() -> Iterator[Path]:
    """All encoders of the working folder and of the shared store."""
    from rau.finetuning import record

    yield workspace.ENCODER
    for place in (workspace.finetuned("x").parent, workspace.parts() / "finetuned"):
        yield from sorted(place.glob(f"*/{record.ENCODER}"))


def _key(encoder: Path, trust_remote_code: bool) -> str:
    import torch

    from rau.encoders.encoder import load

    return load(encoder, torch.device("cpu"), trust_remote_code=trust_remote_code).key
