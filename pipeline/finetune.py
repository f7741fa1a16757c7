"""Stage `finetune`: the encoder's towers, trained together with a composer."""

import shutil
from pathlib import Path

import typer

from pipeline import stage, workspace


def main() -> None:
    """Write `data/finetuned/<dataset>/`: encoder/, head.safetensors, history.csv.

    An encoder that is there already for the same parameters and data stays. Without towers to
    train only a record is written, and `features` reads the encoder as it is.
    """
    from rau import devices
    from rau.encoders import clip
    from rau.features.cache import image_items
    from rau.files import digest_files
    from rau.finetuning import run
    from rau.finetuning.processes import Processes
    from rau.schemas import MANIFEST, read_galleries, read_queries, read_table

    params = workspace.load_params()
    name = params.dataset.name
    folder = workspace.finetuned(name)
    if params.finetune.towers == "none" or params.features.source is not None:
        run.pass_on(folder)
        return
    stage.limit_threads(params.train.threads)
    tables = [workspace.table(name, table) for table in ("queries", "galleries")]
    manifest = read_table(workspace.manifest(name), MANIFEST, "download")
    items = image_items(manifest, workspace.store(params.dataset))
    encoder = clip.load(workspace.ENCODER, devices.choose("cpu"))
    key = run.key(params, encoder.key, digest_files(tables), items)
    if run.key_of(folder) == key:
        print(f"{folder} was fine-tuned with these parameters already")
        raise typer.Exit
    processes = Processes(params.train.device, params.finetune.devices)
    queries, galleries = read_queries(tables[0]), read_galleries(tables[1])
    material = run.prepare(params, items, queries, galleries)
    if processes.first:
        print(material.split.summary())
    state = workspace.parts() / "finetune" / key
    result = run.finetune(
        params,
        clip.load(workspace.ENCODER, processes.device),
        material,
        processes,
        workspace.parts() / "pictures",
        state,
    )
    if not processes.first:
        raise typer.Exit
    run.save(folder, workspace.ENCODER, result, params, key)
    shutil.rmtree(state)
    print(f"kept epoch {result.progress.best_epoch} of {params.finetune.epochs}")


def outputs() -> list[Path]:
    """The record, and the weights where towers were trained."""
    folder = workspace.finetuned(workspace.load_params().dataset.name)
    return sorted(path for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    stage.run(main, outputs)
