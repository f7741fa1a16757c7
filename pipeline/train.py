"""Stage `train`: the head, trained on cached features."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pipeline import stage
from rau import cpu
from rau.files import new_folder, write_json
from rau.methods import METHODS
from rau.project import workspace

if TYPE_CHECKING:
    from rau.params import Params
    from rau.retrieval.feature_set import FeatureSet
    from rau.training.fit import Fitted, Prepared


def main() -> str:
    """Write `data/models/<dataset>/`: head.safetensors, calibration.json, history.csv; only the
    weights if the head was not trained here."""
    params = workspace.load_params()
    folder = workspace.model(params.dataset.name)
    if params.train.head is not None:
        return take(params, folder)
    return train(params, folder)


def take(params: "Params", folder: Path, deterministic: bool = False) -> str:
    """Copy the head `train.head`, or its run's deterministic head, to `folder`.

    Returns:
        The stage's line.

    Raises:
        UserError: if there is none, or it was trained on other features.
    """
    from rau.features import table
    from rau.models import checkpoint
    from rau.project import named_models

    name, own = params.dataset.name, str(params.train.head)
    pair = table.read_pair(*(workspace.features(name, kind) for kind in ("images", "texts")))
    with TemporaryDirectory() as temporary:
        found = named_models.head(own, Path(temporary))
        source = found.deterministic if deterministic else found.folder
        if source is None:
            return without(folder, f"train.head={own} has no deterministic head")
        remedy = f"{named_models.SAME_ENCODER}, for train.head={own}"
        head, extra = checkpoint.load(source, "cpu")
        made_for = dict(extra.get("features") or {})
        table.check_made_for(pair, made_for, head.config.d_image, head.config.d_text, remedy)
        with new_folder(folder) as new:
            shutil.copy(source / workspace.WEIGHTS, new)
            if not head.config.shared_space and not deterministic:
                shutil.copy(source / workspace.TEXT_MAP, new)
    label, origin = METHODS[head.config.name].label, extra.get("dataset") or "other data"
    return f"{label} of {own}, trained on {origin}"


def without(folder: Path, reason: str) -> str:
    """Write the reason why a folder has no head; returns the stage's line."""
    with new_folder(folder) as new:
        write_json(new / workspace.NO_HEAD, {"reason": reason})
    return f"no head: {reason}"


def train(params: "Params", folder: Path, must_start: bool = True) -> str:
    """Write the head of these parameters to `folder`.

    Args:
        must_start: whether a composer of another architecture is an error with
            `train.start=finetuned`; otherwise the head starts fresh.

    Returns:
        The stage's line.
    """
    from rau import devices
    from rau.errors import UserError
    from rau.features import table
    from rau.files import digest, digest_files
    from rau.models import checkpoint
    from rau.retrieval.feature_set import FeatureSet
    from rau.schemas import QUERIES, read_table
    from rau.training import fit
    from rau.training.triplets import TooFew

    cpu.limit_threads(params.train.threads)
    name = params.dataset.name
    sources = [workspace.features(name, kind) for kind in ("images", "texts")]
    composer = workspace.finetuned(name) / workspace.WEIGHTS
    started = [composer] if params.train.start == "finetuned" else []
    if started and not composer.exists():
        raise UserError(f"{composer} is missing; run `python -m pipeline.finetune`")
    pair = table.read_pair(*sources)
    queries = read_table(workspace.table(name, "queries"), QUERIES, "tables").to_pylist()
    run = digest(
        [
            params.model_dump(include={"ua", "head", "train"}),
            digest_files([*sources, workspace.table(name, "queries"), *started]),
            fit.code_digest(params.head.name),
        ],
        16,
    )
    on_device = FeatureSet.on(devices.choose(params.train.device), *pair)
    state = workspace.parts() / "train" / f"{run}.safetensors"
    try:
        prepared = fit.prepare(params.train, on_device, queries)
    except TooFew:
        if fit.needs_training(params):
            raise
        untrained = fit.untrained(params, on_device, queries)
        with new_folder(folder) as new:
            checkpoint.save(new, *untrained)
        return f"{params.head.name}: needs no training, and there is no holdout to evaluate it on"
    start = checkpoint.load(composer.parent, on_device.device)[0] if started else None
    fitted = fit.fit(params, on_device, prepared, state, start=start, must_start=must_start)
    _save(name, folder, prepared, fitted, on_device)
    state.unlink(missing_ok=True)
    return (
        f"{METHODS[params.head.name].label}: kept epoch {fitted.training.best_epoch} of "
        f"{fitted.training.epoch}; {prepared.split.summary()}"
    )


def _save(
    name: str, folder: Path, prepared: "Prepared", fitted: "Fitted", features: "FeatureSet"
) -> None:
    """Replace the folder by a trained head with its history and calibration.

    Args:
        name: name of the data set.
    """
    from rau.evaluation import calibration
    from rau.files import digest_file, write_text
    from rau.models import checkpoint
    from rau.training.history import to_csv
    from rau.training.triplets import holdout_tasks

    tasks = holdout_tasks(prepared.split, features, "forward", remove_reference=True)
    lists = calibration.Lists.of(tasks, fitted.head, features)
    source = calibration.of_dataset(name, workspace.table(name, "queries"))
    with new_folder(folder) as new:
        checkpoint.save(new, fitted.head, fitted.extra)
        write_text(new / workspace.HISTORY, to_csv(fitted.training.history))
        if fitted.text_map is not None:
            checkpoint.save_state(new / workspace.TEXT_MAP, {"text_map": fitted.text_map}, {})
        if found := calibration.fit(lists, digest_file(new / workspace.WEIGHTS), source):
            found.write(new / calibration.FILE)
    if found is None:
        print(
            f"not calibrated: {len(lists.scores):,} holdout queries, a confidence needs at least "
            f"{calibration.MIN_QUERIES}"
        )


def outputs() -> list[Path]:
    """The head."""
    return [workspace.model(workspace.load_params().dataset.name) / workspace.WEIGHTS]


if __name__ == "__main__":
    stage.run(main, outputs)
