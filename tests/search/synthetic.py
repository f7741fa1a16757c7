"""A small model of random weights, folders of small pictures, their index, and queries."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from rau.encoders import encoder as encoders
from rau.models import checkpoint
from rau.models.head import ComposedHead
from rau.schemas import QueryRow
from rau.search.build import build
from rau.search.catalogue import of_folder
from rau.search.index import EngineName
from rau.search.model import Model
from tests.heads import RECORD, small_config

CPU = torch.device("cpu")


def save_head(folder: Path, encoder: encoders.Encoder, joins: bool = True, **changes: Any) -> Path:
    """A head whose last layers are not zero, as `train` stores it."""
    torch.manual_seed(1)
    width = encoder.encode_texts(["a"]).shape[1]
    head = ComposedHead(small_config(d_image=width, d_text=width, **changes))
    with torch.no_grad():
        for parameter in head.parameters():
            if parameter.ndim == 2:
                parameter.add_(torch.randn_like(parameter) / width)
    extra = RECORD | {
        "features": {"key": encoder.key, "arithmetic": "float32", "encoder": encoder.name},
        "joins_captions": joins,
    }
    checkpoint.save(folder, head, extra)
    return folder


def load_model(
    folder: Path, encoder_folder: Path, joins: bool = True, trust: bool = False, **changes: Any
) -> Model:
    """A model of the encoder in a folder, whose code may run, and of such a head."""
    encoder = encoders.load(encoder_folder, CPU, trust_remote_code=trust)
    return Model.load(encoder_folder, save_head(folder, encoder, joins, **changes), CPU, trust)


def draw(path: Path, seed: int) -> None:
    """A picture of its own for every seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize((40, 40), Image.Resampling.NEAREST).save(path)


def draw_folder(root: Path, count: int) -> Sequence[str]:
    """A folder of pictures, in subfolders; returns their paths."""
    paths = [f"{'ab'[n % 2]}/{n:03}.png" for n in range(count)]
    for number, path in enumerate(paths):
        draw(root / path, number)
    return sorted(paths)


def make_index(folder: Path, pictures: Path, model: Model) -> Path:
    """The index of a folder of pictures."""
    build(folder, of_folder(pictures), model, "exact", 8, 1)
    return folder


def make_shop(
    root: Path,
    model: Model,
    column: str = "category",
    kinds: tuple[str, str] = ("dress", "shirt"),
    engine: EngineName = "exact",
) -> Path:
    """The index of eight pictures of one kind and four of another, whose prices are 0 to 11."""
    lines = [
        f"{path},{path},{kinds[number >= 8]},{number}"
        for number, path in enumerate(draw_folder(root / "pictures", 12))
    ]
    (root / "pictures/products.csv").write_text("\n".join([f"id,image,{column},price", *lines]))
    build(root / "index", of_folder(root / "pictures"), model, engine, 8, 1)
    return root / "index"


def query_row(
    name: str, reference: str, target: str, captions: Sequence[str], split: str = "val"
) -> QueryRow:
    """A query between two pictures."""
    return {
        "query_id": name,
        "split": split,
        "category": "all",
        "reference_id": reference,
        "target_id": target,
        "captions": list(captions),
        "members": None,
        "relevant": None,
    }
