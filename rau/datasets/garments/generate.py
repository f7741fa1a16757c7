"""The data set on disk, in FashionIQ's layout, and pictures for training an encoder.

Images come in pools of near relatives, and a query stays inside its pool: a holdout carved by
image then follows the pools and loses nothing.
"""

import hashlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tqdm import tqdm

from rau.datasets.garments.attributes import (
    CATEGORIES,
    VALUES,
    Garment,
    codes,
    mutate,
    pick,
    sample,
)
from rau.datasets.garments.captions import Caption, describe, relative
from rau.datasets.garments.drawing import draw
from rau.datasets.garments.relevance import Demand, relevant
from rau.errors import UserError
from rau.files import ABANDONED_SECONDS, read_json, write_json
from rau.schemas import RELEVANCE, write_table

MARKER = "garments.json"
SPLITS = ("train", "val")
POOL = 40
POOL_ATTRIBUTES = 5
CHUNK = 64
QUALITY = 88
# First words of the random streams, so that no two purposes ever share numbers.
POOLS, PICTURES, PAIRS = 0, 1, 2


@dataclass(frozen=True)
class GarmentsSpec:
    """What to draw: a seed, sizes of the splits over all categories, and pixels a side."""

    seed: int = 0
    train_images: int = 7000
    val_images: int = 3000
    train_queries: int = 15000
    val_queries: int = 3000
    image_size: int = 128


@dataclass(frozen=True)
class Triplet:
    """A query as rows of its part's garments."""

    reference: int
    target: int
    captions: tuple[Caption, Caption]


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
        demands = [
            Demand(
                t.reference,
                t.target,
                tuple(c for caption in t.captions for c in caption.constraints),
            )
            for t in self.triplets
        ]
        return relevant(self.garments, demands)


def _share(total: int, parts: int, index: int) -> int:
    """Size of one of `parts` even parts of `total`."""
    return total // parts + (index < total % parts)


def image_id(seed: int, split: str, category: str, row: int) -> str:
    """Ten capitals and digits, as shops number their goods."""
    number = int(hashlib.sha256(f"{seed}/{split}/{category}/{row}".encode()).hexdigest(), 16)
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return "B" + "".join(digits[number // 36**k % 36] for k in range(9))


def _pool(category: str, size: int, rng: np.random.Generator) -> list[Garment]:
    """Relatives of one garment: a few attributes vary, among a few values each."""
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
        one, other = relative(garments[reference], garments[target], rng)
        triplets.append(Triplet(first + reference, first + target, (one, other)))
    return triplets


def plan(spec: GarmentsSpec) -> list[Part]:
    """All garments and queries, nothing drawn."""
    parts = []
    for s, split in enumerate(SPLITS):
        images = spec.train_images if split == "train" else spec.val_images
        queries = spec.train_queries if split == "train" else spec.val_queries
        for c, category in enumerate(CATEGORIES):
            size = _share(images, len(CATEGORIES), c)
            asked = _share(queries, len(CATEGORIES), c)
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


def _annotation_files(root: Path, parts: Sequence[Part]) -> list[tuple[Path, Path]]:
    """Captions and split of each part."""
    names = [f"{part.category}.{part.split}.json" for part in parts]
    return [
        (root / "captions" / f"cap.{name}", root / "image_splits" / f"split.{name}")
        for name in names
    ]


def _write_annotations(root: Path, parts: Sequence[Part]) -> None:
    rows: list[dict[str, Any]] = []
    for part, (captions, split) in zip(parts, _annotation_files(root, parts), strict=True):
        entries = [
            {
                "target": part.ids[t.target],
                "candidate": part.ids[t.reference],
                "captions": [caption.text for caption in t.captions],
            }
            for t in part.triplets
        ]
        write_json(captions, entries)
        write_json(split, part.ids)
        for index, (entry, answer) in enumerate(zip(entries, part.answers(), strict=True)):
            rows.append(
                {
                    "category": part.category,
                    "split": part.split,
                    "query_index": index,
                    "candidate": entry["candidate"],
                    "target": entry["target"],
                    "relevant": [part.ids[row] for row in answer],
                }
            )
    write_table(root / "relevance.parquet", pa.Table.from_pylist(rows, RELEVANCE), RELEVANCE)


@dataclass(frozen=True)
class _Job:
    garment: Garment
    path: str
    size: int
    seed: tuple[int, ...]


def _draw_files(jobs: Sequence[_Job]) -> int:
    for job in jobs:
        temporary = f"{job.path}.{os.getpid()}.tmp"
        picture = draw(job.garment, job.size, np.random.default_rng(job.seed))
        picture.save(temporary, "JPEG", quality=QUALITY)
        Path(temporary).replace(job.path)
    return len(jobs)


def _draw_pair(job: tuple[int, int, int]) -> tuple[NDArray[np.uint8], str]:
    seed, index, size = job
    rng = np.random.default_rng([PAIRS, seed, index])
    garment = sample(pick(rng, CATEGORIES), rng)
    return np.asarray(draw(garment, size, rng)), describe(garment, rng)


def _draw_pairs(jobs: Sequence[tuple[int, int, int]]) -> list[tuple[NDArray[np.uint8], str]]:
    return [_draw_pair(job) for job in jobs]


def _in_chunks(
    work: Callable[[Sequence[Any]], Any], jobs: Sequence[Any], workers: int, what: str
) -> Iterator[Any]:
    """Do chunks of jobs on processes, in order, with a progress bar."""
    chunks = [jobs[start : start + CHUNK] for start in range(0, len(jobs), CHUNK)]
    with tqdm(total=len(jobs), desc=what, unit="image") as bar:
        if workers <= 1:
            for chunk in chunks:
                yield work(chunk)
                bar.update(len(chunk))
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            for chunk, result in zip(chunks, pool.map(work, chunks), strict=True):
                yield result
                bar.update(len(chunk))


def _claim(root: Path, spec: GarmentsSpec) -> None:
    """Mark the folder with what is drawn in it."""
    if not (root / MARKER).exists():
        write_json(root / MARKER, asdict(spec))
    elif (other := read_json(root / MARKER, "garments")) != asdict(spec):
        raise UserError(f"{root} holds garments of {other}; take another folder or remove it")


def _sweep(folder: Path) -> None:
    """Remove what killed runs left half-drawn; a younger file may be another run's work."""
    for path in folder.glob("*.tmp"):
        if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
            path.unlink(missing_ok=True)


def generate(root: Path, spec: GarmentsSpec, workers: int = 2) -> None:
    """Write the data set under `root`; what is there already is not drawn again.

    The same seed gives the same bytes whatever the number of
    workers. `garments.json`, written first, says what is drawn here.

    Raises:
        UserError: when `root` holds garments drawn from another spec.
    """
    _claim(root, spec)
    parts = plan(spec)
    (root / "images").mkdir(parents=True, exist_ok=True)
    _sweep(root / "images")
    jobs = [
        _Job(garment, str(path), spec.image_size, (PICTURES, spec.seed, s, row))
        for s, part in enumerate(parts)
        for row, (garment, name) in enumerate(zip(part.garments, part.ids, strict=True))
        if not (path := root / "images" / f"{name}.jpg").exists()
    ]
    if jobs:
        for _ in _in_chunks(_draw_files, jobs, workers, "draw images"):
            pass
    annotations = [path for pair in _annotation_files(root, parts) for path in pair]
    if not all(path.exists() for path in (*annotations, root / "relevance.parquet")):
        _write_annotations(root, parts)


def draw_pairs(
    count: int, size: int, seed: int, workers: int = 2
) -> tuple[NDArray[np.uint8], list[str]]:
    """Pictures (count, size, size, 3) and their captions, from a stream of their own."""
    jobs = [(seed, index, size) for index in range(count)]
    results = [
        pair for chunk in _in_chunks(_draw_pairs, jobs, workers, "draw pairs") for pair in chunk
    ]
    pictures, captions = zip(*results, strict=True)
    return np.stack(pictures), list(captions)
