"""The data set on disk, in FashionIQ's layout, and images for training an encoder.

Images come in pools of similar garments, and reference and target of a query share a pool: a
holdout split by image then follows the pools and loses no query.
"""

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rau.datasets.garments.attributes import (
    CATEGORIES,
    VALUES,
    Garment,
    T,
    codes,
    mutate,
    pick,
    sample,
)
from rau.datasets.garments.captions import describe, relative
from rau.datasets.garments.drawing import draw
from rau.datasets.garments.relevance import Triplet, relevant
from rau.errors import UserError
from rau.files import abandoned, read_json, write_json
from rau.params import GarmentsParams
from rau.progress import tqdm
from rau.schemas import RELEVANCE, write_table
from rau.worker_pool import worker_pool

MARKER = "garments.json"
SPLITS = ("train", "val")
POOL = 40
POOL_ATTRIBUTES = 5
CHUNK = 64
QUALITY = 88
# First words of the seeds: no two purposes share a random stream.
POOLS, IMAGES, PAIRS = 0, 1, 2


@dataclass(frozen=True)
class Part:
    """One category of one split; `pools` gives each garment's pool, (N,)."""

    category: str
    split: str
    ids: list[str]
    garments: list[Garment]
    pools: NDArray[np.int64]
    triplets: list[Triplet]

    def answers(self) -> list[NDArray[np.int64]]:
        """Rows of the true answers of each triplet."""
        return relevant(self.garments, self.triplets)


def _share(total: int, parts: int, index: int) -> int:
    """Size of one of `parts` even parts of `total`."""
    return total // parts + (index < total % parts)


def image_id(seed: int, split: str, category: str, row: int) -> str:
    """Ten capitals and digits, like a product number."""
    number = int(hashlib.sha256(f"{seed}/{split}/{category}/{row}".encode()).hexdigest(), 16)
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return "B" + "".join(digits[number // 36**k % 36] for k in range(9))


def _pool(category: str, size: int, rng: np.random.Generator) -> list[Garment]:
    """Variants of one garment: a few attributes vary, among a few values each."""
    base = sample(category, rng)
    names = rng.choice(list(VALUES), size=POOL_ATTRIBUTES, replace=False)
    options = {
        str(name): [base.value(str(name)), *(pick(rng, VALUES[str(name)]) for _ in range(2))]
        for name in names
    }
    return [mutate(base, int(rng.integers(1, 4)), rng, options) for _ in range(size)]


def _triplets(
    garments: Sequence[Garment], first: int, count: int, rng: np.random.Generator
) -> list[Triplet]:
    """Queries between garments of one pool that differ on one to three attributes."""
    code = codes(garments)
    distance = (code[:, None] != code[None]).sum(2)
    pairs = np.argwhere((distance >= 1) & (distance <= 3))
    if not len(pairs):
        pairs = np.argwhere(distance >= 1)
    chosen = pairs[rng.choice(len(pairs), size=count, replace=len(pairs) < count)]
    triplets = []
    for reference, target in chosen.tolist():
        captions = tuple(relative(garments[reference], garments[target], rng))
        triplets.append(Triplet(first + reference, first + target, captions))
    return triplets


def plan(spec: GarmentsParams) -> list[Part]:
    """All garments and queries, nothing drawn."""
    parts = []
    for s, split in enumerate(SPLITS):
        images = spec.train_images if split == "train" else spec.val_images
        queries = spec.train_queries if split == "train" else spec.val_queries
        for c, category in enumerate(CATEGORIES):
            size, asked = (_share(total, len(CATEGORIES), c) for total in (images, queries))
            count = max(1, round(size / POOL))
            garments: list[Garment] = []
            pools: list[int] = []
            triplets: list[Triplet] = []
            for p in range(count):
                rng = np.random.default_rng([POOLS, spec.seed, s, c, p])
                pool = _pool(category, _share(size, count, p), rng)
                triplets += _triplets(pool, len(garments), _share(asked, count, p), rng)
                garments += pool
                pools += [p] * len(pool)
            ids = [image_id(spec.seed, split, category, row) for row in range(size)]
            parts.append(Part(category, split, ids, garments, np.array(pools), triplets))
    return parts


def _write_annotations(root: Path, parts: Sequence[Part]) -> None:
    """Write captions, split files and relevance, unless all of them exist."""
    relevance = root / "relevance.parquet"
    names = [f"{part.category}.{part.split}.json" for part in parts]
    captions = [root / "captions" / f"cap.{name}" for name in names]
    splits = [root / "image_splits" / f"split.{name}" for name in names]
    if all(path.exists() for path in (*captions, *splits, relevance)):
        return
    rows: list[dict[str, Any]] = []
    for part, captions_path, split_path in zip(parts, captions, splits, strict=True):
        entries = [
            {
                "target": part.ids[t.target],
                "candidate": part.ids[t.reference],
                "captions": [caption.text for caption in t.captions],
            }
            for t in part.triplets
        ]
        write_json(captions_path, entries)
        write_json(split_path, part.ids)
        rows += [
            {
                "category": part.category,
                "split": part.split,
                "query_index": index,
                "candidate": entry["candidate"],
                "target": entry["target"],
                "relevant": [part.ids[row] for row in answer],
            }
            for index, (entry, answer) in enumerate(zip(entries, part.answers(), strict=True))
        ]
    write_table(relevance, pa.Table.from_pylist(rows, RELEVANCE), RELEVANCE)


def _draw_file(size: int, garment: Garment, path: Path, seed: Sequence[int]) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    image = draw(garment, size, np.random.default_rng(seed))
    image.save(temporary, "JPEG", quality=QUALITY)
    temporary.replace(path)


def _draw_pair(size: int, seed: int, index: int) -> tuple[NDArray[np.uint8], str]:
    rng = np.random.default_rng([PAIRS, seed, index])
    garment = sample(pick(rng, CATEGORIES), rng)
    return np.asarray(draw(garment, size, rng)), describe(garment, rng)


def _map(
    work: Callable[..., T], jobs: Sequence[Sequence[Any]], workers: int, description: str
) -> list[T]:
    """Call `work` with the arguments of each job, on processes, in order, with a progress bar."""
    bar = partial(tqdm, total=len(jobs), desc=description, unit="image")
    if workers <= 1:
        return list(bar(starmap(work, jobs)))
    context = multiprocessing.get_context("spawn")
    with worker_pool(workers, context) as pool:
        return list(bar(pool.map(work, *zip(*jobs, strict=True), chunksize=CHUNK)))


def claim(root: Path, spec: GarmentsParams) -> None:
    """Mark a folder with what is drawn in it.

    Raises:
        UserError: when it holds garments drawn from another spec.
    """
    if not (root / MARKER).exists():
        write_json(root / MARKER, spec.model_dump())
    elif (other := read_json(root / MARKER, "garments")) != spec.model_dump():
        raise UserError(f"{root} holds garments of {other}; take another folder or remove it")


def generate(root: Path, spec: GarmentsParams, workers: int = 2) -> None:
    """Write the data set under `root`; existing files are not drawn again.

    The same seed gives the same bytes whatever the number of workers. `garments.json`, written
    first, records the spec.

    Raises:
        UserError: when `root` holds garments drawn from another spec.
    """
    claim(root, spec)
    parts = plan(spec)
    draw_files(spec, parts, [root / "images"] * len(parts), workers)
    _write_annotations(root, parts)


def draw_files(
    spec: GarmentsParams, parts: Sequence[Part], folders: Sequence[Path], workers: int
) -> None:
    """Draw the images of each part in a folder of its own, `<id>.jpg`; existing ones stay."""
    for folder in dict.fromkeys(folders):
        folder.mkdir(parents=True, exist_ok=True)
        for old in abandoned(folder.glob("*.tmp")):
            old.unlink(missing_ok=True)
    jobs = [
        (garment, path, (IMAGES, spec.seed, s, row))
        for s, (part, folder) in enumerate(zip(parts, folders, strict=True))
        for row, (garment, name) in enumerate(zip(part.garments, part.ids, strict=True))
        if not (path := folder / f"{name}.jpg").exists()
    ]
    if jobs:
        _map(partial(_draw_file, spec.image_size), jobs, workers, "draw images")


def draw_pairs(
    count: int, size: int, seed: int, workers: int = 2
) -> tuple[NDArray[np.uint8], list[str]]:
    """Images (count, size, size, 3) and their captions, from a random stream of their own."""
    jobs = [(index,) for index in range(count)]
    pairs = _map(partial(_draw_pair, size, seed), jobs, workers, "draw pairs")
    images, captions = zip(*pairs, strict=True)
    return np.stack(images), list(captions)
