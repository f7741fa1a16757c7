"""Features beside bare forward passes and bare decoding, and the memory that encoding takes."""

import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.model import set_model_preprocess_cfg
from open_clip.transform import PreprocessCfg
from PIL import Image
from torch import Tensor

from bench.harness import Bench, Result
from bench.peak import peak_bytes
from pipeline.stage import cores
from rau.devices import threads
from rau.encoders import small_clip
from rau.encoders.clip import Encoder, load, save
from rau.encoders.forward import autocast, normalise, text_features
from rau.features.cache import Cache
from rau.features.extraction import Item

IMAGE_LIMIT = 1 / 0.90
TEXT_LIMIT = 1 / 0.95
MEMORY_LIMIT = 1.1
DISTINCT = 64
WORDS = ("is", "has", "a", "the", "red", "blue", "long", "collar", "with", "and", "more", "darker")
DEVICE_BATCH = 256


@dataclass(frozen=True)
class Size:
    """What is encoded: by which model, how many, of what size, in batches of which size on a CPU.

    A GPU takes `on_device` times as many.
    """

    model: str
    images: int
    width: int
    height: int
    texts: int
    batch: int
    on_device: int


SIZES = (
    Size(small_clip.NAME, 2048, 128, 128, 8192, 256, 4),
    # FashionIQ's pictures are about this large.
    Size("ViT-B-32", 96, 400, 600, 256, 32, 64),
)


def cases(bench: Bench) -> Iterator[Result]:
    """Images, texts, and peak memory of many images beside a quarter of them."""
    for size in SIZES:
        folder = bench.scratch / size.model
        _write_encoder(folder, size.model)
        encoder = load(folder, bench.device)
        many = 1 if bench.device.type == "cpu" else size.on_device
        batch = size.batch if bench.device.type == "cpu" else DEVICE_BATCH
        pictures = _pictures(bench.scratch, size, bench.size(size.images * many))
        yield _images(bench, encoder, pictures, size, batch)
        yield _texts(bench, encoder, _captions(bench.size(size.texts * many)), size, batch)
    yield _memory(bench, SIZES[0])


def _write_encoder(folder: Path, name: str) -> None:
    """Random weights: what they are does not change how long they take."""
    folder.mkdir()
    if name == small_clip.NAME:
        config = small_clip.CONFIG
        model = open_clip.CLIP(**config)
        set_model_preprocess_cfg(
            model, vars(PreprocessCfg(size=config["vision_cfg"]["image_size"]))
        )
    else:
        config, model = open_clip.get_model_config(name), open_clip.create_model(name)
    save(folder, model, config, {"name": name, "pretrained": None})


def _pictures(folder: Path, size: Size, count: int) -> list[Item]:
    """Items of JPEG files with large shapes and grain; a few files, many times."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(min(DISTINCT, count)):
        coarse = rng.integers(0, 256, (size.height // 16, size.width // 16, 3), np.uint8)
        smooth = Image.fromarray(coarse).resize((size.width, size.height), Image.Resampling.BICUBIC)
        grain = rng.normal(0, 6, (size.height, size.width, 3))
        pixels = np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8)
        paths.append(folder / f"{size.width}x{size.height}-{number}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=90)
    return [Item(str(i), str(i), paths[i % len(paths)]) for i in range(count)]


def _captions(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [
        f"{' '.join(rng.choice(WORDS, rng.integers(3, 20)))} {number}" for number in range(count)
    ]


def _encode(
    scratch: Path, encoder: Encoder, things: Sequence[Item] | Sequence[str], batch: int
) -> None:
    """From nothing to a table on disk."""
    with tempfile.TemporaryDirectory(dir=scratch) as name, redirect_stderr(io.StringIO()):
        cache = Cache(Path(name), encoder, "float16")
        path = Path(name) / "table.parquet"
        if isinstance(things[0], Item):
            cache.encode_images(path, things, batch, cores())  # type: ignore[arg-type]
        else:
            cache.encode_texts(path, things, batch, cores())  # type: ignore[arg-type]


def _forward(encoder: Encoder, model: Callable[[Tensor], Tensor], batches: list[Tensor]) -> None:
    with torch.inference_mode(), autocast(encoder.dtype, encoder.device):
        for batch in batches:
            model(batch)


def _forward_apart(
    encoder: Encoder, model: Callable[[Tensor], Tensor], batches: list[Tensor]
) -> None:
    """The same with one core a batch."""
    with threads(1), ThreadPoolExecutor(cores()) as pool:
        list(pool.map(lambda batch: _forward(encoder, model, [batch]), batches))


def _decode(encoder: Encoder, items: Sequence[Item], size: int) -> None:
    def work(start: int) -> None:
        for item in items[start : start + size]:
            encoder.prepare(Path(item.content))

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(work, range(0, len(items), size)))


def _images(bench: Bench, encoder: Encoder, items: list[Item], size: Size, batch: int) -> Result:
    last = encoder.preprocess.transforms[-1]
    decoded = [encoder.prepare(Path(item.content)) for item in items[:DISTINCT]]
    whole = torch.stack([decoded[i % len(decoded)] for i in range(len(items))])
    # One batch is kept and passed again: memory is for the model.
    pixels = normalise(whole[:batch].to(encoder.device), last.mean, last.std)
    del whole
    model = encoder.model.encode_image
    steps = [pixels[: min(batch, len(items) - start)] for start in range(0, len(items), batch)]
    found = bench.turns(
        seconds=partial(_encode, bench.scratch, encoder, items, batch),
        decode_seconds=partial(_decode, encoder, items, max(1, batch // cores())),
        **_forwards(encoder, model, steps),
    )
    forward = min(value for name, value in found.items() if name.startswith("forward"))
    together = forward + found["decode_seconds"]
    floor = together if bench.device.type == "cpu" else max(forward, found["decode_seconds"])
    words = "forward + decode" if bench.device.type == "cpu" else "the slower of forward, decode"
    detail = found | {"floor_seconds": floor, "images": len(items)}
    name = f"features/images/{size.model}/{size.width}x{size.height}"
    return Result(name, found["seconds"] / floor, "x", words, IMAGE_LIMIT, detail=detail)


def _forwards(
    encoder: Encoder, model: Callable[[Tensor], Tensor], batches: list[Tensor]
) -> dict[str, Callable[[], object]]:
    """The ways to run bare forward passes; the floor is the faster one."""
    ways: dict[str, Callable[[], object]] = {
        "forward_seconds": partial(_forward, encoder, model, batches)
    }
    if encoder.device.type == "cpu":
        pieces = [piece for batch in batches for piece in batch.tensor_split(cores())]
        ways["forward_apart_seconds"] = partial(_forward_apart, encoder, model, pieces)
    return ways


def _texts(bench: Bench, encoder: Encoder, texts: list[str], size: Size, batch: int) -> Result:
    tokens, lengths = encoder.tokenise(texts)
    tokens, lengths = tokens[lengths.argsort()].to(encoder.device), lengths.sort().values
    cut = [
        tokens[start : start + batch, : int(lengths[start : start + batch].max())]
        for start in range(0, len(texts), batch)
    ]
    found = bench.turns(
        seconds=partial(_encode, bench.scratch, encoder, texts, batch),
        padded_seconds=partial(
            _forward,
            encoder,
            encoder.model.encode_text,
            [tokens[start : start + batch] for start in range(0, len(texts), batch)],
        ),
        **_forwards(encoder, partial(text_features, encoder.model), cut),
    )
    floor = min(value for name, value in found.items() if name.startswith("forward"))
    detail = found | {"floor_seconds": floor, "texts": len(texts)}
    name = f"features/texts/{size.model}"
    words = "forward passes without padding"
    return Result(name, found["seconds"] / floor, "x", words, TEXT_LIMIT, detail=detail)


def _from_folder(scratch: Path, size: Size, count: int) -> None:
    encoder = load(scratch / size.model, torch.device("cpu"))
    _encode(scratch, encoder, _pictures(scratch, size, count), size.batch)


def _memory(bench: Bench, size: Size) -> Result:
    count = bench.size(size.images)
    few, many = (peak_bytes(_from_folder, bench.scratch, size, n)[1] for n in (count, 4 * count))
    return Result(
        f"features/memory/{size.model}",
        many / few,
        "x",
        "a quarter of the images",
        MEMORY_LIMIT,
        detail={"bytes": many, "few_bytes": few, "images": 4 * count},
    )
