"""Stage `finetune`: the encoder's towers, trained together with a composer."""

import shutil
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import stage
from rau import cpu
from rau.project import workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rau.features.item import Item
    from rau.finetuning.processes import Processes
    from rau.params import Params


TAKEN = stage.Partial("fine-tuned before with these parameters: taken from the store")


def main() -> str:
    """Write `data/finetuned/<dataset>/`: encoder/, head.safetensors, history.csv.

    What was fine-tuned before with the same parameters and data is taken from the store. Without
    towers to train only a record is written, and `features` reads the encoder as it is.
    """
    from rau.encoders import label
    from rau.features.items import COLUMNS, image_items
    from rau.files import digest_files
    from rau.finetuning import record, run
    from rau.finetuning.processes import Processes
    from rau.schemas import MANIFEST, read_table

    params = workspace.load_params()
    name = params.dataset.name
    folder = workspace.finetuned(name)
    if params.features.source is not None:
        record.pass_on(folder)
        return "features.source: no encoder to train"
    if params.finetune.towers == "none":
        _check_head(params)
        record.pass_on(folder)
        return "finetune.towers=none: the encoder as it is"
    tables = digest_files(workspace.table(name, table) for table in ("queries", "galleries"))
    manifest = read_table(workspace.manifest(name), MANIFEST, "download", (*COLUMNS, "status"))
    items = image_items(manifest, workspace.store(params.dataset))
    encoder = label.read_label(workspace.ENCODER).files
    with Processes(params.train.device, params.finetune.devices) as processes:
        key = run.key(params, encoder, tables, items, processes.device)
        kept = workspace.parts() / "finetuned" / key
        cpu.limit_threads(params.train.threads, processes.local)
        known = processes.of_the_first(processes.first and record.is_whole(kept, key))
        line = TAKEN if known else _finetune(params, items, key, kept, processes)
        if processes.first:
            record.take(kept, folder)
    return line if processes.first else stage.Partial()


def _check_head(params: "Params") -> None:
    """Say before anything is encoded that there will be no head to measure."""
    import pyarrow.compute as pc

    from rau.finetuning import run
    from rau.project import named_models
    from rau.schemas import MANIFEST, read_queries, read_table
    from rau.training import fit, triplets

    if params.train.head is not None:
        named_models.check_encoder(params.train.head)
    elif fit.needs_training(params):
        name = params.dataset.name
        columns = ("image_id", "status")
        images = read_table(workspace.manifest(name), MANIFEST, "download", columns)
        there = images["image_id"].filter(pc.equal(images["status"], "ok")).to_pylist()
        queries = read_queries(workspace.table(name, "queries"))
        share, seed = params.train.holdout, params.train.split_seed
        triplets.divide(queries, run.vocabulary(there, ()), share, seed)


def _finetune(
    params: "Params", items: "Sequence[Item]", key: str, kept: Path, processes: "Processes"
) -> str:
    """Fine-tune into the store; returns the stage's line."""
    from filelock import FileLock

    from rau.encoders import clip
    from rau.features import cache
    from rau.finetuning import record, run
    from rau.schemas import read_galleries, read_queries

    name = params.dataset.name
    queries = read_queries(workspace.table(name, "queries"))
    galleries = read_galleries(workspace.table(name, "galleries"))
    material = run.prepare(params, items, queries, galleries)
    state = workspace.parts() / "finetune" / key
    state.parent.mkdir(parents=True, exist_ok=True)
    # An experiment that needs the same encoder waits for this one.
    with FileLock(f"{state}.lock") if processes.first else nullcontext():
        if processes.of_the_first(processes.first and record.is_whole(kept, key)):
            return TAKEN
        loaded = clip.load(workspace.ENCODER, processes.device, params.features.precision)
        if processes.first:
            stage.warn({"encoder": loaded.name}, params.dataset)
        pictures = workspace.parts() / "pictures"
        frozen = partial(cache.cached, workspace.parts(), params.features)
        result = run.finetune(params, loaded, material, processes, pictures, state, frozen)
        if processes.first:
            run.save(kept, workspace.ENCODER, result, params, key)
            shutil.rmtree(state)
    return (
        f"{params.finetune.towers}: kept epoch {result.progress.best_epoch} of "
        f"{params.finetune.epochs}; {material.split.summary()}"
    )


def outputs() -> list[Path]:
    """The record, and the weights where towers were trained."""
    folder = workspace.finetuned(workspace.load_params().dataset.name)
    return sorted(path for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    stage.run(main, outputs)
