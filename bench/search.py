"""Search: end-to-end queries, building an index, and adding images to a large index."""

import io
import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from bench.features import LIMIT, SIZES, Sized, bare_images, forward, image_items
from bench.harness import Bench, Result, Work, seconds
from bench.random_index import attributes, names, random_index, random_model
from rau.cpu import cores
from rau.encoders.clip import Encoder
from rau.encoders.forward import normalise, text_features
from rau.features.item import Item
from rau.search.build import build
from rau.search.catalogue import Catalogue, of_folder, only
from rau.search.index import Index
from rau.search.model import Model, Query
from rau.search.parts import Parts
from rau.search.searcher import Searcher

# ViT-B-32's vectors have dimension 512. A query is short, so it is timed more often.
ENCODER, GALLERIES, OFTEN = "ViT-B-32", (10_000, 100_000, 1_000_000), 5
QUERY_LIMIT = 1.3
ADDED, ADD_LIMIT = 1_000, 1.0
CAPTION = "is red and has longer sleeves"


def cases(
    bench: Bench,
    encoder: str = ENCODER,
    galleries: Sequence[int] = GALLERIES,
    pictures: Sized = SIZES,
) -> Iterator[Result]:
    """Benchmark queries by gallery size, additions to the largest, and builds by encoder."""
    model = random_model(bench, encoder)
    photo = image_items(bench.scratch / "photo", 400, 600, 1)[0]
    for count in map(bench.size, galleries):
        folder = bench.scratch / str(count)
        index = random_index(folder, model, count, Path(photo.content))
        yield from query_cases(bench, Searcher.open(folder, bench.device, loaded=model), photo)
        if count == bench.size(max(galleries)):
            yield add_case(bench, index, model, photo)
    for name, images, width, height, _, batch in pictures:
        own = model if name == encoder else random_model(bench, name)
        yield build_case(bench, own, width, height, bench.size(images), batch)


def query_cases(bench: Bench, searcher: Searcher, photo: Item) -> Iterator[Result]:
    """Benchmark a caption with an image file, and with an image of the index."""
    encoder, path = searcher.model.encoder, Path(photo.content)
    assert isinstance(encoder, Encoder)
    last = encoder.preprocess.transforms[-1]
    pixels = normalise(encoder.load_images([path]).to(bench.device), last.mean, last.std)
    tokens, lengths = encoder.tokenise([CAPTION])
    tokens = tokens[:, : int(lengths.max())].to(bench.device)
    vectors = np.concatenate([one.vectors.astype(np.float32) for one in searcher.index.segments])

    def ours(picture: str | Path) -> None:
        searcher.search(Query([searcher.reference(picture)], CAPTION))

    def text() -> None:
        forward(encoder, partial(text_features, encoder.model), tokens)
        _ = vectors[:1] @ vectors.T

    def both() -> None:
        forward(encoder, encoder.model.encode_image, pixels)
        text()

    often = replace(bench, repeats=OFTEN * bench.repeats)
    kinds: tuple[tuple[str, str | Path, Work], ...] = (
        ("file", path, both),
        ("id", names(1)[0], text),
    )
    for kind, picture, floor in kinds:
        name = f"search/query by {kind}/{len(vectors)}x{vectors.shape[1]}"
        yield often.ratio(name, partial(ours, picture), floor, "forward, product", QUERY_LIMIT)


def add_case(bench: Bench, index: Index, model: Model, photo: Item) -> Result:
    """Benchmark adding encoded images to an index; the catalogue's other files are unchanged."""
    known, batch = len(index), bench.size(ADDED)
    new = image_items(bench.scratch / "new", 32, 32, batch * (bench.repeats + 1))
    root, features = bench.scratch, np.ones((batch, model.head.config.d_image), np.float16)
    ids, paths = names(known), [str(Path(photo.content).relative_to(root))] * known
    times = []
    for turn in range(bench.repeats + 1):
        own = new[turn * batch : (turn + 1) * batch]
        parts = Parts(index.folder / "parts", model.features_key)
        parts.add([item.key for item in own], features, [b"thumbnail"] * batch)
        parts.flush()
        ids += [f"new {item.key}" for item in own]
        paths += [str(Path(item.content).relative_to(root)) for item in own]
        table = attributes(range(len(ids)))
        catalogue = Catalogue("random", root, ids, paths, table)
        times.append(seconds(partial(built, index.folder, catalogue, model, batch)))
    name = f"search/add {batch} encoded/{known}x{model.dim}"
    return Result(name, statistics.median(times[1:]), "s", limit=ADD_LIMIT)


def build_case(
    bench: Bench, model: Model, width: int, height: int, count: int, batch: int
) -> Result:
    """Benchmark adding images to an index of one image; a new one would copy its model."""
    encoder, root = model.encoder, bench.scratch / f"{width}x{height}"
    assert isinstance(encoder, Encoder)
    items = image_items(root, width, height, count)
    catalogue = of_folder(root)
    first = only(catalogue, "first", {Path(items[0].content).name})

    start = bench.scratch / f"{encoder.name}-first"
    built(start, first, model, batch)

    def ours() -> None:
        with tempfile.TemporaryDirectory(dir=bench.scratch) as name:
            made = shutil.copytree(start, Path(name) / "index", copy_function=os.link)
            built(made, catalogue, model, batch)

    return bench.ratio(
        f"search/build/{encoder.name}/{width}x{height}",
        ours,
        bare_images(encoder, items, batch),
        "decode, forward",
        LIMIT,
    )


def built(folder: Path, catalogue: Catalogue, model: Model, batch: int) -> None:
    """Build an index without output."""
    with redirect_stderr(io.StringIO()):
        build(folder, catalogue, model, "exact", batch * cores(), cores())
