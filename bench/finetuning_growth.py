"""Fine-tuning with growing batches and data sets: time, exponents of growth and peak memory.

Steps are micro-batched, as large batches are. No image occurs twice, so that all work is
proportional to the number of queries.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context

import torch

from bench.features import random_encoder
from bench.finetuning import STEP_LIMIT, Setup, bare_step, make_setup, one_step
from bench.harness import Bench, Result, Work, exponent, seconds
from rau.encoders import small_clip
from rau.memory import peak_memory_bytes

NAME, SIDE = small_clip.NAME, 128
MICRO = 64
BATCHES, MEMORY_BATCHES = (64, 256, 1024), (256, 512, 4096)
# Queries of an epoch, and its batch.
QUERIES, EPOCH_BATCH = (512, 2048), 256
# Encoder, width and height of the images, queries, batch size of the epochs that decode.
DECODED = ((NAME, SIDE, SIDE, 512, 256), ("ViT-B-32", 400, 600, 16, 8))
# A figure that grows linearly has the exponent 1; a peak that does not grow, the ratio 1.
LINEAR_LIMIT, FLAT_LIMIT = 1.1, 1.25
Sized = Sequence[tuple[str, int, int, int, int]]


def cases(bench: Bench, decoded: Sized = DECODED) -> Iterator[Result]:
    """Benchmark steps by batch, epochs by data, epochs that decode, and the memory of a step."""
    setup = distinct(bench, NAME, SIDE, SIDE, max(BATCHES), max(BATCHES))
    steps = {size: _step(replace(setup, batch=size)) for size in map(bench.size, BATCHES)}
    yield from _growth(bench, f"finetuning_growth/step/{NAME}", steps)
    epochs = {
        bench.size(count): distinct(bench, NAME, SIDE, SIDE, count, EPOCH_BATCH).epoch()
        for count in QUERIES
    }
    yield from _growth(bench, f"finetuning_growth/epoch/{NAME}", epochs)
    for name, width, height, queries, batch in decoded:
        yield decoding(bench, distinct(bench, name, width, height, queries, batch, cache="never"))
    yield from memory(bench)


def distinct(
    bench: Bench,
    name: str,
    width: int,
    height: int,
    queries: int,
    batch: int,
    *,
    cache: str = "always",
) -> Setup:
    """Create a data set in which every image is the reference or the target of one query.

    Arguments as of `make_setup`, which has twice as many images as queries.
    """
    sizes = (2 * queries, width, height, queries, batch)
    setup = make_setup(bench, random_encoder(bench, name), *sizes, cache=cache)
    # Of a small scale, the numbers are rounded.
    ends = torch.arange(2 * len(setup.triplets)) % setup.triplets.images
    reference, target = ends.view(2, -1)
    triplets = replace(setup.triplets, reference=reference, target=target)
    return replace(setup, triplets=triplets)


def _step(setup: Setup) -> Work:
    made = setup.finetuner(micro_batch=MICRO)
    return partial(one_step, made, made.sampler.epoch(0)[0])


def _growth(bench: Bench, label: str, works: Mapping[int, Work]) -> Iterator[Result]:
    """Median times by size after a warm-up, and the power of the size with which they grow."""
    points = []
    for size, work in works.items():
        work()
        points.append((size, statistics.median(seconds(work) for _ in range(bench.repeats))))
        yield Result(f"{label}/{size}", points[-1][1], "s")
    yield Result(f"{label}/exponent", exponent(points), "", limit=LINEAR_LIMIT)


def decoding(bench: Bench, setup: Setup) -> Result:
    """Benchmark an epoch that decodes every image, compared to only its passes."""
    made = setup.finetuner()
    floors = [bare_step(made, setup, batch) for batch in made.sampler.epoch(0)]

    def passes() -> None:
        for floor in floors:
            floor()

    name = f"finetuning_growth/decoding epoch/{setup.encoder.name}/{setup.batch}"
    return bench.ratio(name, setup.epoch(), passes, "forward, backward, AdamW", STEP_LIMIT)


def memory(bench: Bench) -> Iterator[Result]:
    """Measure the peak memory of a process that takes one step, by batch."""
    label, largest = f"finetuning_growth/memory/{NAME}", max(MEMORY_BATCHES)
    # Images are decoded here, so that the processes only read them.
    distinct(bench, NAME, SIDE, SIDE, largest, largest)
    peaks = []
    for batch in MEMORY_BATCHES:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            peaks.append(pool.submit(peak_of_step, bench, batch).result())
        yield Result(f"{label}/{bench.size(batch)}", peaks[-1], "bytes")
    compared = f"batch of {bench.size(MEMORY_BATCHES[0])}"
    yield Result(f"{label}/growth", peaks[-1] / peaks[0], "x", compared, FLAT_LIMIT)


def peak_of_step(bench: Bench, batch: int) -> int:
    """Take a micro-batched step; returns the largest resident size of this process in bytes."""
    _step(distinct(bench, NAME, SIDE, SIDE, batch, batch))()
    return peak_memory_bytes()
