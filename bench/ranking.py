"""Ranking, compared to only the matrix product, and its memory with a million images."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.data import GALLERY, VAL_QUERIES, WIDTHS, random_features
from bench.harness import Bench, Result
from rau.memory import peak_memory_bytes
from rau.retrieval.ranking import rank

TOP_K = 50
BLOCK = 1024
# Below this dimension, any pass over the scores takes longer than the product.
LIMITED_WIDTH, LIMIT = 640, 1.4
# CIRR's val split: queries, gallery; images per subset. Number of correct answers as in FashionIQ
# with relevance judgements.
CIRR, SUBSET, RELEVANT = (4_181, 2_297), 6, 20
MEMORY_SIZE, MEMORY_LIMIT = (512, 1_000_000, 640), 4 * 2**30


def product(queries: Tensor, gallery: Tensor, out: Tensor) -> None:
    """The floor: compute scores of (Q, d) with (G, d) in blocks of `BLOCK` queries into `out`."""
    for block in torch.split(queries, BLOCK):
        torch.mm(block, gallery.T, out=out[: len(block)])


def cases(bench: Bench) -> Iterator[Result]:
    """Benchmark top list and target's rank by dimension, also with mAP and subsets, and memory."""
    for width in WIDTHS:
        limit = LIMIT if width >= LIMITED_WIDTH else None
        yield _timed(bench, "top 50", VAL_QUERIES, GALLERY, width, limit)
    yield _timed(bench, "top 50, mAP, subset", *CIRR, LIMITED_WIDTH, None, RELEVANT, SUBSET)
    queries, images, width = bench.size(MEMORY_SIZE[0]), bench.size(MEMORY_SIZE[1]), MEMORY_SIZE[2]
    # In a separate process, as the peak of this one may be from another case.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        peak = pool.submit(peak_bytes, queries, images, width).result()
    name = f"ranking/memory/{queries}x{images}x{width}"
    yield Result(name, peak, "bytes", limit=MEMORY_LIMIT)


def _timed(
    bench: Bench,
    name: str,
    queries: int,
    images: int,
    width: int,
    limit: float | None,
    relevant: int = 0,
    subset: int = 0,
) -> Result:
    """Time random unit vectors, one target per query, with correct answers and subsets."""
    queries, images = bench.size(queries), bench.size(images)
    generator = torch.Generator().manual_seed(0)

    def places(*shape: int) -> Tensor:
        return torch.randint(images, shape, generator=generator).to(bench.device)

    left, right = (
        F.normalize(random_features(count, width, seed), dim=1).to(bench.device)
        for seed, count in enumerate((queries, images))
    )
    truth = places(queries, relevant) if relevant else None
    members = places(queries, subset) if subset else None
    target, removed = places(queries), torch.full((queries,), -1, device=bench.device)
    scores = left.new_empty(min(BLOCK, queries), images)
    return bench.ratio(
        f"ranking/{name}/{queries}x{images}x{width}",
        lambda: rank(left, right, target, removed, TOP_K, truth, members),
        lambda: product(left, right, scores),
        "matrix product",
        limit,
    )


def peak_bytes(queries: int, images: int, width: int) -> int:
    """Peak resident memory of a process that ranks float16 features, including the features."""
    gallery = random_features(images, width, dtype=torch.float16)
    target, removed = torch.arange(queries), torch.full((queries,), -1)
    rank(random_features(queries, width, 1), gallery, target, removed, TOP_K)
    return peak_memory_bytes()
