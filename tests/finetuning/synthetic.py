"""A few plain pictures and queries between them, to fine-tune a small CLIP on."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save, save_file

from rau.encoders import clip
from rau.features import cache
from rau.features.item import Item
from rau.files import write_bytes
from rau.finetuning import finetuner, run
from rau.finetuning.processes import Processes
from rau.models import checkpoint
from rau.params import FinetuneParams, HeadParams, Params, TrainParams
from rau.schemas import GalleryRow, QueryRow

COLOURS = ("red", "green", "blue", "white", "black", "yellow")
SIZES = (16, 28, 40)


def pictures(folder: Path, pools: int = 4) -> list[Item]:
    """Squares of a colour and a size; the pool is the background."""
    folder.mkdir(parents=True, exist_ok=True)
    items = []
    for pool in range(pools):
        for colour in COLOURS:
            for size in SIZES:
                name = f"{pool}-{colour}-{size}"
                path = folder / f"{name}.png"
                picture = Image.new("RGB", (64, 48), (40 * pool + 60, 90, 120))
                picture.paste(colour, (8, 4, 8 + size, 4 + size))
                picture.save(path)
                items.append(Item(name, hashlib.sha256(path.read_bytes()).hexdigest(), path))
    return items


def queries(pools: int = 4) -> list[QueryRow]:
    """A change of colour from every picture."""
    rows: list[QueryRow] = []
    for pool in range(pools):
        for number, colour in enumerate(COLOURS):
            for size in SIZES:
                other = COLOURS[(number + 1 + pool % 2) % len(COLOURS)]
                rows.append(
                    {
                        "query_id": f"dress-train-{len(rows)}",
                        "split": "val" if pool == 0 else "train",
                        "category": "dress",
                        "reference_id": f"{pool}-{colour}-{size}",
                        "target_id": f"{pool}-{other}-{SIZES[0]}",
                        "captions": [f"is {other}", f"a {other} one"],
                        "members": None,
                        "relevant": [f"{pool}-{other}-{s}" for s in SIZES],
                    }
                )
    return rows


def gallery() -> list[GalleryRow]:
    """Of val, the pictures of its pool."""
    names = (f"0-{colour}-{size}" for colour in COLOURS for size in SIZES)
    return [{"gallery": "original", "category": "dress", "image_id": name} for name in names]


def params(**finetune: Any) -> Params:
    """Two epochs of three steps."""
    defaults: dict[str, Any] = {
        "composer": "head",
        "epochs": 2,
        "batch_size": 12,
        "temperature": 0.1,
        "tower_lr": 1e-3,
    }
    return Params(
        head=HeadParams(name="rau", hidden=16, dropout=0.2),
        train=TrainParams(holdout=0.3, device="cpu"),
        finetune=FinetuneParams(**defaults | finetune),
    )


def finetune(chosen: Params, encoder: Path, folder: Path) -> run.Finetuned:
    """Fine-tune a copy of an encoder; a stopped run in the folder resumes."""
    processes = Processes("cpu", chosen.finetune.devices)
    material = run.prepare(chosen, pictures(folder / "images"), queries(), gallery())
    loaded = clip.load(encoder, torch.device("cpu"))
    stores, state = folder / "pictures", folder / "state"
    frozen = partial(cache.cached, folder / "parts", chosen.features)
    return run.finetune(chosen, loaded, material, processes, stores, state, frozen)


def rising_values() -> Callable[..., dict[str, float]]:
    """A measure that finds every epoch better than the one before, so that the last is kept."""
    values = count(1.0)
    return lambda *_: {"holdout_mean_of_r10_r50": next(values)}


def weights(result: run.Finetuned) -> dict[str, torch.Tensor]:
    """Of the towers and the composer, after the best epoch."""
    model = result.encoder.model.state_dict() | result.composer.state_dict(prefix="composer.")
    return {name: value.detach().clone().contiguous() for name, value in model.items()}


def one_of_two(
    rank: int, port: int, options: Mapping[str, Any], encoder: Path, folder: Path
) -> None:
    """Fine-tune as one of two processes that torchrun started.

    The first writes the weights, and what the last epoch's `gradient_norm` was, and removes the
    state as the stage does; the second is late to read it.
    """
    here = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    os.environ |= {name: str(value) for name, value in here.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    run.Measure.__call__ = rising_values()  # type: ignore[method-assign]
    read = checkpoint.load_state

    def late(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        time.sleep(rank)
        return read(path)

    checkpoint.load_state = late  # type: ignore[assignment]
    done = finetune(params(**options), encoder, folder)
    if rank == 0:
        shutil.rmtree(folder / "state")
        norm = torch.tensor(done.progress.history[-1]["gradient_norm"])
        save_file(weights(done) | {"gradient_norm": norm}, folder / "weights.safetensors")


def one_that_saves_every_step(options: Mapping[str, Any], encoder: Path, folder: Path) -> None:
    """Fine-tune as a process that may be killed at any moment; writes the weights."""
    torch.set_num_threads(1)
    finetuner.SAVE_SECONDS = 0
    done = finetune(params(**options), encoder, folder)
    write_bytes(folder / "weights.safetensors", save(weights(done)))
