"""Feature tables, compared to only preparation (decoding, tokenising) and forward passes."""

import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.model import set_model_preprocess_cfg
from open_clip.transform import PreprocessCfg
from PIL import Image
from torch import Tensor

from bench.harness import Bench, Result, Work
from rau.cpu import cores
from rau.devices import threads
from rau.encoders import small_clip
from rau.encoders.clip import Encoder, load, save
from rau.encoders.forward import autocast, normalise, text_features
from rau.encoders.label import write_label
from rau.features.cache import Cache
from rau.features.item import Item
from rau.files import digest_file

LIMIT = 1 / 0.9
DISTINCT_FILES = 64
# Model, images, width and height (FashionIQ's are about 400 x 600), texts, batch size per core.
Sized = Sequence[tuple[str, int, int, int, int, int]]
SIZES: Sized = ((small_clip.NAME, 2048, 128, 128, 8192, 128), ("ViT-B-32", 96, 400, 600, 256, 16))


def cases(bench: Bench) -> Iterator[Result]:
    """Benchmark images and texts with the built-in and a common encoder, with random weights."""
    for name, images, width, height, texts, batch in SIZES:
        encoder = random_encoder(bench, name)
        items = image_items(bench.scratch, width, height, bench.size(images))
        yield image_case(bench, encoder, items, batch)
        yield text_case(bench, encoder, captions(bench.size(texts)), batch)


def random_encoder(bench: Bench, name: str) -> Encoder:
    """Create an encoder with random weights; its forward passes take the same time."""
    folder = bench.scratch / name
    if folder.exists():
        return load(folder, bench.device)
    folder.mkdir()
    if name == small_clip.NAME:
        config = small_clip.CONFIG
        model = open_clip.CLIP(**config)
        set_model_preprocess_cfg(
            model, vars(PreprocessCfg(size=config["vision_cfg"]["image_size"]))
        )
    else:
        config, model = open_clip.get_model_config(name), open_clip.create_model(name)
    save(folder, model, config)
    write_label(folder, name, None)
    return load(folder, bench.device)


def image_items(folder: Path, width: int, height: int, count: int) -> list[Item]:
    """Write JPEG files of coarse shapes and noise; repeated images differ in appended bytes."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    contents = []
    for _ in range(min(DISTINCT_FILES, count)):
        coarse = Image.fromarray(rng.integers(0, 256, (height // 16, width // 16, 3), np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
        pixels = (smooth + rng.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(file := io.BytesIO(), "JPEG", quality=90)
        contents.append(file.getvalue())
    items = []
    for number in range(count):
        path = folder / f"{width}x{height}-{number}.jpg"
        path.write_bytes(contents[number % len(contents)] + str(number).encode())
        items.append(Item(str(number), digest_file(path), path))
    return items


def captions(count: int) -> list[str]:
    """Create distinct texts of 3 to 19 words."""
    lengths = np.random.default_rng(0).integers(1, 10, count)
    return [f"{'is darker ' * length}{number}" for number, length in enumerate(lengths)]


def image_case(bench: Bench, encoder: Encoder, items: list[Item], batch: int) -> Result:
    """Benchmark image features, from files to a table."""

    def ours(cache: Cache, path: Path) -> None:
        cache.encode_images(path, items, batch * cores(), cores())

    width, height = Image.open(items[0].content).size
    return bench.ratio(
        f"features/images/{encoder.name}/{width}x{height}",
        partial(to_table, bench, encoder, ours),
        bare_images(encoder, items, batch),
        "decode, forward",
        LIMIT,
    )


def bare_images(encoder: Encoder, items: list[Item], batch: int) -> Work:
    """The floor: decode the images, and encode the same number of batches."""
    last = encoder.preprocess.transforms[-1]
    decoded = encoder.load_images([Path(item.content) for item in items[:batch]])
    pixels = normalise(decoded.to(encoder.device), last.mean, last.std)
    # The same batch is reused to save memory.
    batches = [pixels[: len(items) - start] for start in range(0, len(items), batch)]

    def bare() -> None:
        on_all_cores(lambda item: encoder.prepare(Path(item.content)), items)
        on_all_cores(partial(forward, encoder, encoder.model.encode_image), batches)

    return bare


def text_case(bench: Bench, encoder: Encoder, texts: list[str], batch: int) -> Result:
    """Benchmark text features, from strings to a table."""
    tokens, lengths = encoder.tokenise(texts)
    lengths, order = lengths.sort()
    pieces = [slice(start, start + batch) for start in range(0, len(texts), batch)]
    batches = [tokens[order[p], : int(lengths[p].max())].to(encoder.device) for p in pieces]

    def bare() -> None:
        encoder.tokenise(texts)
        on_all_cores(partial(forward, encoder, partial(text_features, encoder.model)), batches)

    def ours(cache: Cache, path: Path) -> None:
        cache.encode_texts(path, texts, batch * cores(), cores())

    name = f"features/texts/{encoder.name}"
    return bench.ratio(
        name, partial(to_table, bench, encoder, ours), bare, "tokenise, forward", LIMIT
    )


def to_table(bench: Bench, encoder: Encoder, encode: Callable[[Cache, Path], None]) -> None:
    """Encode into an empty cache without output."""
    with tempfile.TemporaryDirectory(dir=bench.scratch) as name, redirect_stderr(io.StringIO()):
        encode(Cache(Path(name), encoder, "float16"), Path(name) / "table.parquet")


def on_all_cores(work: Callable[[Any], object], inputs: Sequence[Any]) -> None:
    """Process the inputs in parallel, each on one core."""
    with threads(1), ThreadPoolExecutor(cores()) as pool:
        list(pool.map(work, inputs))


@torch.inference_mode()
def forward(encoder: Encoder, tower: Callable[[Tensor], Tensor], batch: Tensor) -> None:
    """Run only a forward pass."""
    with autocast(encoder.dtype, encoder.device):
        tower(batch)
