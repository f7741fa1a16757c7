"""Stages with growing numbers of images: time, peak memory, disk space, and exponents of growth.

Encoding is excluded: it is linear, and `bench.features` measures it. Vectors have dimension 128, as
with the built-in encoder. Times are CPU times summed over all threads: other work on the machine
changes them little, and exponents hardly. Memory is the peak of a separate process.
"""

import math
import shutil
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from bench import ivf as ivf_index
from bench.data import low_features, random_features
from bench.features import image_items as write_pictures
from bench.features import random_encoder
from bench.harness import Bench, Result, Unit, bytes_in, exponent, processor_seconds
from bench.random_index import BLOCK, names, random_index, random_model
from pipeline.tables import COLUMNS as IMAGE_COLUMNS
from rau.datasets import manifest
from rau.datasets.annotations import Annotations
from rau.datasets.locate import Located
from rau.encoders import small_clip
from rau.evaluation.distractors import Distractors
from rau.features import items, precomputed
from rau.features.cache import Cache
from rau.features.table import Features, write_blocks
from rau.memory import peak_memory_bytes
from rau.models.baselines import WeightedSum
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.protocols import FASHIONIQ
from rau.retrieval.tasks import protocol_tasks
from rau.schemas import (
    IMAGES,
    MANIFEST,
    GalleryRow,
    QueryRow,
    read_table,
    write_batches,
    write_table,
)
from rau.search.index import Index

SIZES = (100_000, 1_000_000, 10_000_000)
# Numbers of ranked queries, of gallery images, and of listed results.
QUERIES, GALLERY, TOP_K = 256, 3_000, 50
DISTRACTORS = "distractors.parquet"
WIDTH = small_clip.CONFIG["embed_dim"]
UNITS: Mapping[str, Unit] = {
    "time": "s",
    "query": "s",
    "memory": "bytes",
    "disk": "bytes",
    "vectors": "bytes",
    "recall at 10": "",
}
Figures = dict[str, float]


def cases(bench: Bench, sizes: Sequence[int] = SIZES) -> Iterator[Result]:
    """Benchmark every stage at each of its sizes, then compute the exponents."""
    found: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for count in sorted({bench.size(size) for size in sizes}):
        for name, (stage, most) in STAGES.items():
            if count > most:
                continue
            # In a separate process, as the peak of this one may be from another stage.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                figures = pool.submit(stage, bench, count).result()
            for what, value in figures.items():
                yield Result(f"scale/{name}/{count}/{what}", value, UNITS[what])
                found.setdefault((name, what), []).append((count, value))
        shutil.rmtree(bench.scratch / str(count), ignore_errors=True)
    for (name, what), points in found.items():
        # Much of the memory is used by packages, independent of the number of images.
        if len(points) > 1 and what not in ("memory", "recall at 10"):
            yield Result(f"scale/{name}/exponent of {what}", exponent(points), "")


def pictures(bench: Bench, count: int) -> Figures:
    """Measure the manifest of tiny images: its cost apart from decoding."""
    folder = bench.scratch / str(count) / "pictures"
    folder.mkdir(parents=True)
    ids = [Path(item.content).stem for item in write_pictures(folder, 16, 16, count)]
    path = folder.parent / "manifest.parquet"

    def work() -> None:
        images = Located(folder, ids, lambda image_id: [image_id])
        write_batches(path, manifest.rows(folder, images, {}, 1), MANIFEST, {})

    found = _figures(processor_seconds(work), path)
    shutil.rmtree(folder)
    return found


def tables(bench: Bench, count: int) -> Figures:
    """Measure the table of images, from a manifest and the ids of the annotations."""
    path = _manifest(bench, count)
    known = Annotations({("all", "train"): names(count)}, [], {}, lambda image_id: [image_id])

    def work() -> None:
        listed = read_table(path, MANIFEST, "download", IMAGE_COLUMNS)
        write_table(path.with_name("tables.parquet"), known.tables(listed)["images"], IMAGES)

    return _figures(processor_seconds(work), path.with_name("tables.parquet"))


def features(bench: Bench, count: int) -> Figures:
    """Measure writing a table of features that are all in the cache."""
    listed = _manifest(bench, count)
    folder = listed.parent
    cache = Cache(folder / "parts", random_encoder(bench, small_clip.NAME), "float16")
    columns = (*items.COLUMNS, "status")
    images = items.image_items(read_table(listed, MANIFEST, "download", columns), folder)
    encoded = (
        (block, random_features(len(block), WIDTH, number, torch.float16).numpy())
        for number, block in enumerate(items.blocks(images))
    )
    cache.parts["images"].write(encoded, lambda _: None)
    path = folder / "images.parquet"
    found = _figures(processor_seconds(partial(cache.encode_images, path, images, 1, 1)), path)
    shutil.rmtree(folder / "parts")
    path.unlink()
    return found


def source(bench: Bench, count: int) -> Figures:
    """Measure taking precomputed features from several files, in another order."""
    folder = bench.scratch / str(count) / "source"
    (folder / "images").mkdir(parents=True)
    ids: dict[str, list[pa.Array]] = {kind: [] for kind in precomputed.COLUMNS}
    for start in reversed(range(0, count, BLOCK)):
        own = names(min(BLOCK, count - start), start)
        block = low_features(len(own), WIDTH, start).half().numpy()
        write_blocks(folder / f"images/{start:010}.parquet", "image_id", [(own, block)], {})
        ids["images"].append(pa.array(own[::-1]))
    write_blocks(folder / "texts.parquet", "text", [(["a"], block[:1])], {})
    ids["texts"].append(pa.array(["a"]))
    needed = {kind: pa.chunked_array(own) for kind, own in ids.items()}
    targets = {kind: folder / "out" / f"{kind}.parquet" for kind in needed}
    time = processor_seconds(partial(precomputed.take, folder, needed, targets))
    found = _figures(time, targets["images"])
    shutil.rmtree(folder)
    return found


def _manifest(bench: Bench, count: int) -> Path:
    """A manifest of images that do not exist."""
    path = bench.scratch / str(count) / "listed.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {"bytes": 1000, "width": 16, "height": 16, "source": "the folder", "status": "ok"}
    blocks = (names(min(BLOCK, count - start), start) for start in range(0, count, BLOCK))
    rows = (
        [{**row, "image_id": n, "path": f"{n}.jpg", "sha256": f"{int(n):064x}"} for n in own]
        for own in blocks
    )
    batches = (pa.RecordBatch.from_pylist(own, schema=MANIFEST) for own in rows)
    write_batches(path, batches, MANIFEST, {})
    return path


def index(bench: Bench, count: int) -> Figures:
    """Measure writing an index with vectors, raw features and the metadata of each image."""
    folder = bench.scratch / str(count) / "index"
    model = random_model(bench, small_clip.NAME)
    file = Path(write_pictures(bench.scratch / "photo", 32, 32, 1)[0].content)
    return _figures(
        processor_seconds(partial(random_index, folder, model, count, file, draw=low_features)),
        folder,
    )


def search(bench: Bench, count: int) -> Figures:
    """Measure start and query of the exact engine of the index written by `index`."""
    folder = bench.scratch / str(count) / "index"
    asked = low_features(1, WIDTH, 1).numpy()
    asked /= np.linalg.norm(asked)
    start = processor_seconds(lambda: Index.open(folder).exact.search(asked, 10))
    engine = Index.open(folder).exact
    engine.search(asked, 10)
    query = partial(engine.search, asked, 10)
    times = [processor_seconds(query) for _ in range(3 * bench.repeats)]
    return {"time": start, "query": statistics.median(times), "memory": peak_memory_bytes()}


def distractors(bench: Bench, count: int) -> Figures:
    """Write the file that `ranking` reads; nothing is measured."""
    drawn = (
        ([f"d{row:08}" for row in rows], low_features(len(rows), WIDTH, rows[0]).half().numpy())
        for rows in (range(count)[start : start + BLOCK] for start in range(0, count, BLOCK))
    )
    write_blocks(bench.scratch / str(count) / DISTRACTORS, "image_id", drawn, {})
    return {}


def ranking(bench: Bench, count: int) -> Figures:
    """Measure ranking queries by one method among distractors streamed from Parquet."""
    path = bench.scratch / str(count) / DISTRACTORS
    data = _queries(bench.size(QUERIES), bench.size(GALLERY))
    tasks = protocol_tasks(FASHIONIQ[0], *data)
    found = Distractors.open("path", path, data[2], data[0], data[1], path.parent, "")
    work = partial(found.count, tasks, {"sum": WeightedSum(0.5)}, data[2], TOP_K)
    figures = _figures(processor_seconds(work), path)
    path.unlink()
    return figures


def ivf(bench: Bench, count: int) -> Figures:
    """Measure LanceDB's IVF index of `count` vectors."""
    found = ivf_index.figures(bench, count, WIDTH)
    return found | {"memory": peak_memory_bytes()} if found else {}


def _queries(queries: int, images: int) -> tuple[list[QueryRow], list[GalleryRow], FeatureSet]:
    """Create queries between images of a gallery, and all features."""
    ids, texts = names(images), [f"text {number}" for number in range(queries)]
    rng = np.random.default_rng(0)
    ends = [rng.choice(images, 2, replace=False).tolist() for _ in texts]
    rows: list[QueryRow] = [
        {
            "query_id": text,
            "split": "val",
            "category": "all",
            "reference_id": ids[reference],
            "target_id": ids[target],
            "captions": [text],
            "members": None,
            "relevant": None,
        }
        for text, (reference, target) in zip(texts, ends, strict=True)
    ]
    gallery: list[GalleryRow] = [
        {"gallery": "original", "category": "all", "image_id": name} for name in ids
    ]
    tables = [
        Features(own, low_features(len(own), WIDTH, seed).half().numpy(), {"space": "shared"})
        for seed, own in ((1, ids), (2, texts))
    ]
    return rows, gallery, FeatureSet.on(torch.device("cpu"), *tables)


def _figures(time: float, written: Path) -> Figures:
    """Figures of a stage that has just finished; `written` is its output file or folder."""
    disk = written.stat().st_size if written.is_file() else bytes_in(written)
    return {"time": time, "memory": peak_memory_bytes(), "disk": disk}


# By name, with the largest size to measure; in `manifest`, each image takes up a disk block.
STAGES: Mapping[str, tuple[Callable[[Bench, int], Figures], float]] = {
    "manifest": (pictures, 1_000_000),
    "tables": (tables, math.inf),
    "features": (features, math.inf),
    "features.source": (source, math.inf),
    "index": (index, math.inf),
    "search": (search, math.inf),
    "distractors": (distractors, math.inf),
    "ranking": (ranking, math.inf),
    "ivf": (ivf, math.inf),
}
