"""Fine-tuning steps, compared to only the towers' passes; epochs, to CLIP4Cir's first stage."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from bench.data import head_config, random_triplets
from bench.features import Sized, captions, image_items, random_encoder
from bench.harness import Bench, Result
from bench.plain import PictureTriplets, clip4cir_epoch
from rau.cpu import cores
from rau.encoders import small_clip
from rau.encoders.clip import Encoder
from rau.encoders.forward import autocast, normalise, text_features
from rau.finetuning import picture_store, run
from rau.finetuning.finetuner import Distinct, Finetuner
from rau.finetuning.pictures import Pictures
from rau.finetuning.processes import Processes
from rau.finetuning.sides import Encoded, Texts
from rau.finetuning.towers import Towers
from rau.models.head import ComposedHead
from rau.params import FinetuneParams, Params
from rau.training.sampler import Batch, BatchSampler
from rau.training.triplets import Triplets

# A micro-batched step runs every forward pass twice.
STEP_LIMIT, MICRO_LIMIT, EPOCH_LIMIT = 1.15, 1.45, 1 / 1.5
# Encoder, images, their width and height, queries, batch size. With this number of images, few
# occur twice in a batch, as in the data sets.
SIZES = ((small_clip.NAME, 2304, 128, 128, 1024, 256), ("ViT-B-32", 512, 400, 600, 32, 16))
GPU_SCALE = 8
LOADER_WORKERS = 2
# Parameters of CLIP4Cir's first stage.
CLIP4CIR: dict[str, Any] = {
    "composer": "sum",
    "duplicates": "count",
    "two_way": False,
    "temperature": 0.01,
    "tower_lr": 2e-6,
    "eps": 1e-7,
    "schedule": "constant",
    "warm_up": 0.0,
}


class Unsaved(Finetuner):
    """A fine-tuner that writes no state, which would dominate the short epochs of the bench."""

    def _write(self, name: str, tensors: Mapping[str, Tensor]) -> None: ...


@dataclass(frozen=True)
class Setup:
    """An encoder with random weights, and queries between random images.

    Attributes:
        sources: the images, decoded into a memory-mapped file or for every step.
        paths: paths of the image files.
        batch: number of queries per step.
    """

    encoder: Encoder
    sources: Pictures
    paths: Sequence[Path]
    texts: Sequence[str]
    triplets: Triplets
    batch: int

    def finetuner(self, **changes: Any) -> Finetuner:
        """Create a fine-tuner of both towers whose validation takes no time."""
        tune = FinetuneParams(epochs=1000, batch_size=self.batch, batches="mixed", **changes)
        params, device = Params(finetune=tune), self.encoder.device
        own = run.composer_params(params)
        d = self.encoder.model.visual.output_dim
        towers = Towers(self.encoder, tune, self.encoder.dtype)
        towers.train()
        texts = Texts(*self.encoder.tokenise(self.texts))
        processes = Processes(device.type, 1)
        return Unsaved(
            towers,
            ComposedHead(head_config(own, d)).to(device),
            Encoded(self.sources, self.sources, towers.images, processes, tune.micro_batch),
            Encoded(texts, texts, towers.texts, processes, tune.micro_batch),
            BatchSampler(self.triplets, own.train),
            tune,
            own.ua,
            processes,
            lambda: {f"holdout_{tune.select}": 0.0},
            Path(),
            self.encoder.dtype,
            run.tower_lr(params),
        )

    def epoch(self, **changes: Any) -> Callable[[], None]:
        """Return an epoch of a fine-tuner, without validation and state."""
        made = self.finetuner(**changes)
        # A run measures this before its first epoch; the progress bar of long epochs shows it.
        made.progress.history.append({f"holdout_{made.finetune.select}": 0.0})
        return partial(made._epoch, tqdm(disable=True))

    def clip4cir(self, workers: int = LOADER_WORKERS) -> Callable[[], float]:
        """Return an epoch of the usual training loop; its workers start with the first epoch."""
        optimizer = torch.optim.AdamW(self.encoder.model.parameters(), lr=2e-6, eps=1e-7)
        half = self.encoder.dtype == torch.float16
        loader = DataLoader(
            PictureTriplets(self.encoder, self.paths, self.texts, self.triplets),
            batch_size=self.batch,
            shuffle=True,
            num_workers=workers,
            drop_last=True,
            # Forking a large process slows down its next writes, which matters in short epochs.
            persistent_workers=workers > 0,
        )
        scaler = torch.amp.GradScaler(self.encoder.device.type, enabled=half)
        return partial(clip4cir_epoch, self.encoder, optimizer, scaler, loader)


def make_setup(
    bench: Bench,
    encoder: Encoder,
    count: int,
    width: int,
    height: int,
    queries: int,
    batch: int,
    *,
    cache: str = "always",
) -> Setup:
    """Create a data set of sizes as in `SIZES`, multiplied by the scale of the benchmark.

    Args:
        cache: `finetune.picture_cache`; with `never`, images are decoded for every step.
    """
    queries = bench.size(queries)
    items = image_items(bench.scratch, width, height, bench.size(count))
    texts = captions(4 * queries)
    return Setup(
        encoder,
        picture_store.load(bench.scratch, encoder, items, (), cache, cores(), True),
        [Path(item.content) for item in items],
        texts,
        random_triplets(queries, len(items), len(texts), torch.device("cpu")),
        bench.size(batch),
    )


def cases(bench: Bench, sizes: Sized = SIZES) -> Iterator[Result]:
    """Benchmark steps of the default composer, also micro-batched, and epochs of the plain sum."""
    scale = bench.scale * (GPU_SCALE if bench.device.type == "cuda" else 1)
    bench = replace(bench, scale=scale)
    for name, *own in sizes:
        setup = make_setup(bench, random_encoder(bench, name), *own)
        half = max(1, setup.batch // 2)
        steps = ("step", None, STEP_LIMIT), ("micro-batched step", half, MICRO_LIMIT)
        for kind, micro, limit in steps:
            made = setup.finetuner(micro_batch=micro)
            batch = made.sampler.epoch(0)[0]
            case, floor = partial(one_step, made, batch), bare_step(made, setup, batch)
            label = f"finetuning/{kind}/{name}/{setup.batch}"
            yield bench.ratio(label, case, floor, "forward, backward, AdamW", limit)
        label, epoch = f"finetuning/epoch/{name}/{setup.batch}", setup.epoch(**CLIP4CIR)
        yield bench.ratio(label, epoch, setup.clip4cir(), "CLIP4Cir's loop", EPOCH_LIMIT)


def one_step(made: Finetuner, batch: Batch) -> Tensor:
    """Run a step as in an epoch, with images read from the memory-mapped file."""
    own = Distinct.of(batch)
    images, texts = (
        next(iter(side.steps([rows], 0)))
        for side, rows in ((made.images, own.images), (made.texts, own.texts))
    )
    return made._step(batch, own, images, texts)


def bare_step(made: Finetuner, setup: Setup, batch: Batch) -> Callable[[], None]:
    """The floor: both towers' passes on the batch's distinct inputs, and the optimizer step."""
    encoder, own = setup.encoder, Distinct.of(batch)
    last, tokens = encoder.preprocess.transforms[-1], encoder.tokenise(setup.texts)
    decoded = next(iter(setup.sources.steps([own.images], 0)))(slice(None))
    pixels = normalise(decoded.to(encoder.device), last.mean, last.std)
    cut = tokens[0][own.texts, : int(tokens[1][own.texts].max())].to(encoder.device)
    width = encoder.model.visual.output_dim
    gradients = [torch.randn(len(rows), width, device=encoder.device) for rows in (pixels, cut)]

    def work() -> None:
        made.optimizer.zero_grad()
        with autocast(encoder.dtype, encoder.device):
            features = encoder.model.encode_image(pixels), text_features(encoder.model, cut)
        torch.autograd.backward([side.float() for side in features], gradients)
        made.optimizer.step()

    return work
