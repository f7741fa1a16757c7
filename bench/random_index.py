"""An index of random vectors in the format of a real build, and a model with random weights."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from torch import Tensor
from torch.nn import functional as F

from bench.data import head_config, random_features
from bench.features import random_encoder
from bench.harness import Bench
from rau.files import new_folder
from rau.models import checkpoint
from rau.models.head import ComposedHead
from rau.params import Params
from rau.retrieval.protocols import weight_key
from rau.search.index import MODELS, Index, Manifest, commit
from rau.search.model import Model
from rau.search.segments import IMAGES, Block
from rau.training.model_selection import ALL_CHOICES

BLOCK = 65_536


def random_model(bench: Bench, name: str) -> Model:
    """Create an encoder with random weights and an untrained head with default parameters."""
    encoder, params = random_encoder(bench, name), Params()
    width = encoder.encode_texts(["a"]).shape[1]
    about = {
        "features": {"key": encoder.key, "arithmetic": "auto", "encoder": name},
        "select": params.train.select,
        "best_epoch": 1,
        "best_value": 0.0,
        "text_weights": {weight_key(*choice): 0.5 for choice in ALL_CHOICES},
        "alignment": {"pairs": None},
        "threads": 1,
        "queries": {"train": 1},
        "joins_captions": False,
    }
    head = bench.scratch / f"{name}-head"
    checkpoint.save(head, ComposedHead(head_config(params, width)), about)
    return Model.load(bench.scratch / name, head, bench.device)


def names(count: int, start: int = 0) -> list[str]:
    """Ids of images, in order."""
    return [f"{number:08}" for number in range(start, start + count)]


def attributes(rows: range) -> pa.Table:
    """Table of the only attribute of the images in these rows."""
    return pa.table({"price": pa.array(rows, pa.int64())})


def random_index(
    folder: Path,
    model: Model,
    count: int,
    file: Path,
    draw: Callable[[int, int, int], Tensor] = random_features,
) -> Index:
    """Create an index of `count` images, all with the same file.

    `draw` returns the vectors, given number, dimension and seed; they are normalised and also serve
    as features. The stored SHA-256 values are made up and distinct; thumbnails are a few bytes.
    """
    width, stat = model.head.config.d_image, file.stat()
    # Path relative to the scratch folder, as in `rau.search.build`.
    place = f"{file.parent.name}/{file.name}"

    def blocks() -> Iterator[Block]:
        for start in range(0, count, BLOCK):
            rows = range(start, min(start + BLOCK, count))
            drawn = draw(len(rows), width, start)
            vectors = F.normalize(drawn, dim=1).numpy().astype(np.float16)
            columns = {
                "id": names(len(rows), start),
                "path": [place] * len(rows),
                "sha256": [f"{row:064x}" for row in rows],
                "bytes": [stat.st_size] * len(rows),
                "mtime_ns": [stat.st_mtime_ns] * len(rows),
            }
            images = pa.table(columns, IMAGES)
            yield Block(images, attributes(rows), vectors, vectors, [b"thumbnail"] * len(rows))

    with new_folder(folder / MODELS / model.key) as copy:
        model.copy_to(copy)

    def manifest() -> Manifest:
        return Manifest(
            model=model.key,
            features=model.features_key,
            dim=model.dim,
            d_image=width,
            source="random",
            feature_sum=[1.0] * width,
            feature_count=count,
        )

    return commit(folder, None, manifest, (), blocks(), count)
