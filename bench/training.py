"""Training steps, compared to their matrix products; epochs, to the usual training loop."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch.utils.data import DataLoader

from bench.data import (
    IMAGES,
    TEXTS,
    TRAIN_QUERIES,
    WIDTHS,
    head_config,
    random_features,
    random_triplets,
)
from bench.harness import Bench, Result
from bench.plain import PlainHead, TripletDataset, epoch
from rau import devices
from rau.features.table import Features
from rau.models.head import ComposedHead
from rau.params import MatmulPrecision, Params
from rau.retrieval.feature_set import FeatureSet
from rau.training.sampler import Batch
from rau.training.trainer import Trainer
from rau.training.triplets import Triplets

# The default: RAU's head with one block per side.
PARAMS = Params()
HEAD, UA, TRAIN = PARAMS.head, PARAMS.ua, PARAMS.train
LOADER_WORKERS = 2
# Time of an epoch relative to the usual loop.
EPOCH_LIMIT = 0.8


def matmul_shapes(rows: int, width: int, hidden: int) -> list[tuple[int, int, int]]:
    """Shapes (m, k, n) of the matrix products in a step of RAU's head with one block per side.

    Forward: each linear layer, the logits, the cosines of CSU. Backward: one product per weight,
    one per input unless it is a feature, two for the logits, and none for CSU's mask.
    """
    layers = [
        # inputs, outputs, whether the input needs a gradient
        (2 * width, width, False),
        (2 * width, hidden, False),
        (hidden, width, True),
        *[(width, hidden, True), (hidden, width, True), (hidden, width, True)],
        *[(width, hidden, False), (hidden, width, True), (hidden, width, True)],
    ]
    shapes = []
    for inputs, outputs, needs in layers:
        shapes += [(rows, inputs, outputs), (outputs, rows, inputs)]
        shapes += [(rows, outputs, inputs)] * needs
    return shapes + [(rows, width, rows)] * 2 + [(rows, rows, width)] * 2


def bare_products(
    shapes: list[tuple[int, int, int]], device: torch.device, precision: MatmulPrecision
) -> Callable[[], None]:
    """The floor: matrix products with preallocated operands and outputs."""
    operands = [
        (
            torch.randn(m, k, device=device),
            torch.randn(k, n, device=device),
            torch.empty(m, n, device=device),
        )
        for m, k, n in shapes
    ]

    def work() -> None:
        with devices.matmul_precision(precision):
            for left, right, out in operands:
                torch.mm(left, right, out=out)

    return work


def synthetic(bench: Bench, width: int) -> tuple[FeatureSet, Triplets]:
    """Create random float16 features and triplets of FashionIQ's size on the device."""
    images, texts = (
        random_features(bench.size(count), width, seed, torch.float16)
        for seed, count in enumerate((IMAGES, TEXTS))
    )
    metadata = {"key": "bench", "space": "shared"}
    features = FeatureSet.on(
        bench.device,
        Features([str(i) for i in range(len(images))], images.numpy(), metadata),
        Features([str(i) for i in range(len(texts))], texts.numpy(), metadata),
    )
    queries = bench.size(TRAIN_QUERIES)
    return features, random_triplets(queries, len(images), len(texts), bench.device)


def trainer(
    features: FeatureSet, queries: Triplets, precision: MatmulPrecision = "float32"
) -> Trainer:
    """Create a trainer whose validation takes no time."""
    config = head_config(PARAMS, features.images.matrix.shape[1])
    head = ComposedHead(config).to(features.device)
    train = TRAIN.model_copy(update={"precision": precision})
    return Trainer(head, UA, train, queries, features, lambda _: {"mean_of_r10_r50": 0.0})


def cases(bench: Bench) -> Iterator[Result]:
    """Benchmark steps in float32 and a possibly faster precision of the device, and epochs."""
    reduced: MatmulPrecision = "tf32" if bench.device.type == "cuda" else "bfloat16"
    for width in WIDTHS:
        features, queries = synthetic(bench, width)
        for precision in ("float32", reduced):
            made = trainer(features, queries, precision)
            batch = made.sampler.epoch(0)[0]
            shapes = matmul_shapes(len(batch.query), width, HEAD.hidden)
            yield bench.ratio(
                f"training/step/{width}/{precision}",
                partial(one_step, made, batch),
                bare_products(shapes, bench.device, precision),
                f"matrix products in {precision}",
            )
        yield bench.ratio(
            f"training/epoch/{width}/float32",
            partial(trainer(features, queries)._epoch, 0),
            usual_epoch(features, queries),
            "the usual loop",
            EPOCH_LIMIT,
        )


def one_step(made: Trainer, batch: Batch) -> None:
    """Run a step as in an epoch."""
    with devices.matmul_precision(made.train.precision):
        made._step(0, batch)


def usual_epoch(features: FeatureSet, queries: Triplets) -> Callable[[], float]:
    """Return an epoch of the usual training loop, which starts its workers in every epoch."""
    head = PlainHead(features.images.matrix.shape[1], HEAD.hidden, HEAD.dropout).to(features.device)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-4)
    triplets = TripletDataset(
        torch.from_numpy(features.images.matrix),
        torch.from_numpy(features.texts.matrix),
        torch.stack([queries.reference, queries.target], dim=1).cpu(),
        queries.texts.cpu(),
    )
    loader = DataLoader(
        triplets, batch_size=TRAIN.batch_size, shuffle=True, num_workers=LOADER_WORKERS
    )
    return partial(epoch, head, optimizer, loader, UA, TRAIN.temperature)
