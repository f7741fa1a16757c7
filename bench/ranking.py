"""Ranking beside the bare matrix product, its memory, and the bootstrap."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.harness import Bench, Result
from bench.peak import peak_bytes
from bench.sizes import CIRR, FASHIONIQ, WIDTHS, random_features
from rau.datasets.captions import all_texts
from rau.evaluation import benchmark, bootstrap
from rau.features.table import Features
from rau.models.config import HeadConfig
from rau.models.head import ComposedHead
from rau.params import Params
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.protocols import Protocol, presets
from rau.retrieval.ranking import BLOCK, rank
from rau.schemas import GalleryRow, QueryRow

TOP_K = 50
WIDTH = 640
WANTED = 1.3
MILLION = 1_000_000
GIB = 2**30
METRICS = 12
ANSWERS = 20


@dataclass(frozen=True)
class Case:
    """Unit queries and a gallery on the device, and a target and nothing removed for each query."""

    queries: Tensor
    gallery: Tensor
    target: Tensor
    removed: Tensor

    @classmethod
    def make(cls, device: torch.device, queries: int, images: int, width: int) -> "Case":
        """Random ones."""
        generator = torch.Generator().manual_seed(0)
        return cls(
            F.normalize(random_features(queries, width, 1), dim=1).to(device),
            F.normalize(random_features(images, width, 2), dim=1).to(device),
            torch.randint(0, images, (queries,), generator=generator).to(device),
            torch.full((queries,), -1, device=device),
        )

    def rank(self, relevant: Tensor | None = None, subset: Tensor | None = None) -> object:
        """Top list and ranks."""
        return rank(self.queries, self.gallery, self.target, self.removed, TOP_K, relevant, subset)

    def product(self) -> "Product":
        """The floor."""
        return Product(self.queries, self.gallery)


class Product:
    """All scores, a block at a time, in memory that is there already."""

    def __init__(self, queries: Tensor, gallery: Tensor) -> None:
        self._queries = queries
        # Scores of a block fit the memory of any machine that runs this.
        self._images = torch.split(gallery, 131_072)
        rows = min(BLOCK, len(queries))
        self._room = queries.new_empty(rows, max(map(len, self._images)))

    def __call__(self) -> None:
        """Multiply."""
        for images in self._images:
            for block in torch.split(self._queries, BLOCK):
                torch.mm(block, images.T, out=self._room[: len(block), : len(images)])


def cases(bench: Bench) -> Iterator[Result]:
    """Time, memory, bootstrap."""
    yield from _times(bench)
    yield from _memory(bench)
    yield from _assessment(bench)
    yield from _bootstrap(bench)


def _times(bench: Bench) -> Iterator[Result]:
    floor = "bare matrix product"
    queries, images = bench.size(FASHIONIQ.val_queries), bench.size(FASHIONIQ.gallery)
    for width in WIDTHS:
        case = Case.make(bench.device, queries, images, width)
        name = f"{queries}x{images}x{width}"
        yield bench.ratio(f"ranking/top50/{name}", case.rank, case.product(), floor, WANTED)
        half = Case(case.queries, case.gallery.half(), case.target, case.removed)
        yield bench.ratio(f"ranking/float16/{name}", half.rank, case.product(), floor, WANTED)
    case = Case.make(bench.device, queries, 10 * images, WIDTH)
    name = f"{queries}x{10 * images}x{WIDTH}"
    yield bench.ratio(f"ranking/ten-fold/{name}", case.rank, case.product(), floor, WANTED)
    queries, images = bench.size(CIRR.val_queries), bench.size(CIRR.gallery)
    case = Case.make(bench.device, queries, images, WIDTH)
    name = f"{queries}x{images}x{WIDTH}"
    six = torch.randint(0, images, (queries, 6), generator=torch.Generator().manual_seed(3))
    six = six.to(bench.device)
    yield bench.ratio(
        f"ranking/cirr/{name}", lambda: case.rank(subset=six), case.product(), floor, WANTED
    )
    true = torch.randint(0, images, (queries, ANSWERS), generator=torch.Generator().manual_seed(4))
    true = true.to(bench.device)
    yield bench.ratio(
        f"ranking/average-precision/{name}",
        lambda: case.rank(relevant=true),
        case.product(),
        floor,
    )


def rank_once(queries: int, images: int, width: int) -> None:
    """Make half-precision features, in place for their peak not to hide the other, and rank."""
    nowhere = torch.full((queries,), -1)
    target = torch.arange(queries) * (images // queries)
    gallery = torch.empty(images, width, dtype=torch.float16).normal_()
    rank(random_features(queries, width), gallery, target, nowhere, TOP_K)


def _memory(bench: Bench) -> Iterator[Result]:
    images, queries = bench.size(MILLION), bench.size(512)
    before, peak = peak_bytes(rank_once, queries, images, WIDTH)
    name = f"{queries}x{images}x{WIDTH}"
    yield Result(f"ranking/memory/{name}", peak, "bytes", limit=4 * GIB)
    few, many = bench.size(10 * FASHIONIQ.gallery), bench.size(30 * FASHIONIQ.gallery)
    beyond = {}
    for count in (few, many):
        before, peak = peak_bytes(rank_once, queries, count, WIDTH)
        beyond[count] = peak - before - 2 * count * WIDTH
    yield Result(
        f"ranking/memory-growth/{queries}x{few}-{many}x{WIDTH}",
        beyond[many] / beyond[few],
        "x",
        "memory beyond features, gallery a third as large",
        1.1,
    )
    case = (
        random_features(queries, WIDTH, 1).to(bench.device),
        random_features(images, WIDTH, 2, torch.float16).to(bench.device),
        torch.arange(queries, device=bench.device),
        torch.full((queries,), -1, device=bench.device),
    )
    seconds = bench.seconds(lambda: rank(*case, TOP_K))
    yield Result(f"ranking/seconds/{name}", seconds, "s")


def _assessment(bench: Bench) -> Iterator[Result]:
    """Both protocols of FashionIQ, in one go and each alone."""
    queries, images = bench.size(FASHIONIQ.val_queries), bench.size(FASHIONIQ.gallery)
    protocols = presets("fashioniq")
    measure = assessing(bench.device, queries, images)
    yield bench.ratio(
        f"ranking/evaluate/{queries}x{images}x{WIDTH}",
        lambda: measure(*protocols),
        lambda: list(map(measure, protocols)),
        "every protocol alone",
        1.0,
    )


def assessing(device: torch.device, count: int, images: int) -> Callable[..., None]:
    """An untrained head on random data, to be measured under the protocols that are called for."""
    features, queries, galleries = _tables(device, count, images)
    params = Params()
    head = ComposedHead(
        HeadConfig.from_params(
            params.head,
            params.ua,
            params.train,
            d_image=WIDTH,
            d_text=WIDTH,
            shared_space=True,
            text_weight=0.5,
        )
    ).to(device)

    def measure(*chosen: Protocol) -> None:
        methods = {protocol: {"head": head} for protocol in chosen}
        benchmark.evaluate(methods, queries, galleries, features, params.evaluate, "head")

    return measure


def _tables(
    device: torch.device, count: int, images: int
) -> tuple[FeatureSet, list[QueryRow], list[GalleryRow]]:
    """Random features of val's images and texts, its queries and its galleries."""
    ids = [f"{number:06}" for number in range(images)]
    categories = [f"category {number}" for number in range(FASHIONIQ.categories)]
    pools = [ids[number :: len(categories)] for number in range(len(categories))]
    queries: list[QueryRow] = []
    for number in range(count):
        pool = pools[number % len(pools)]
        queries.append(
            {
                "query_id": str(number),
                "category": categories[number % len(pools)],
                "split": "val",
                "reference_id": pool[number % len(pool)],
                "target_id": pool[(number + 1) % len(pool)],
                "captions": [f"first {number}", f"second {number}"],
                "relevant": None,
                "members": None,
            }
        )
    galleries: list[GalleryRow] = [
        {"gallery": gallery, "category": category, "image_id": image}
        for gallery in ("original", "val-union")
        for category, pool in zip(categories, pools, strict=True)
        for image in pool
    ]
    texts = sorted({text for query in queries for text in all_texts(query["captions"])})
    made = [
        Features(names, random_features(len(names), WIDTH, seed, torch.float16).numpy(), {})
        for seed, names in enumerate((ids, texts))
    ]
    return FeatureSet.on(device, *made), queries, galleries


def _bootstrap(bench: Bench) -> Iterator[Result]:
    count = bench.size(FASHIONIQ.val_queries)
    rng = np.random.default_rng(0)
    each = count // FASHIONIQ.categories
    values = {name: rng.random((each, METRICS)) for name in ("a", "b", "c")}
    clusters = {name: np.arange(each) for name in values}
    yield bench.timed(
        f"ranking/bootstrap/{count}x{METRICS}x1000",
        lambda: bootstrap.intervals(values, clusters, 1000, 0),
        limit=1.0,
    )
