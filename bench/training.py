"""Training: a step beside the matrix products that it must do, an epoch beside the usual loop."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from bench.harness import Bench, Result
from bench.plain import Loss, PlainHead, TripletDataset, epoch
from bench.sizes import CIRR, FASHIONIQ, WIDTHS, DataSet, random_features
from rau import devices
from rau.features.table import Features
from rau.models.config import HeadConfig
from rau.models.head import ComposedHead
from rau.params import MatmulPrecision, Params, TrainParams, UaParams
from rau.retrieval.feature_set import FeatureSet
from rau.training.sampler import Batch
from rau.training.trainer import Trainer
from rau.training.triplets import Triplets

HIDDEN = 256
BATCH = 512
UA = UaParams(theta=0.8, csu_weight=0.3, dr_weight=0.2)
LOADER_WORKERS = 2


def products(rows: int, width: int, hidden: int) -> list[tuple[int, int, int]]:
    """Shapes (m, k, n) of a step's matrix products, of RAU's head with one block a side.

    Forward: gate, MLP, a trunk and two outputs a side, logits, CSU's cosines. Backward: a product
    for every weight, and for every input that is not a feature; two for the logits, none for CSU's
    mask.
    """
    both = 2 * width
    layers = [
        # inputs, outputs, does its input need a gradient
        (both, width, False),
        (both, hidden, False),
        (hidden, width, True),
        *[(width, hidden, True), (hidden, width, True), (hidden, width, True)],
        *[(width, hidden, False), (hidden, width, True), (hidden, width, True)],
    ]
    found = []
    for inputs, outputs, needs in layers:
        found += [(rows, inputs, outputs), (outputs, rows, inputs)]
        found += [(rows, outputs, inputs)] * needs
    return found + [(rows, width, rows)] * 2 + [(rows, rows, width)] * 2


def bare_products(shapes: list[tuple[int, int, int]], device: torch.device) -> Callable[[], None]:
    """The products alone, on matrices in memory, their results where the last ones were."""
    made = [
        (
            torch.randn(m, k, device=device),
            torch.randn(k, n, device=device),
            torch.empty(m, n, device=device),
        )
        for m, k, n in shapes
    ]

    def work() -> None:
        for left, right, out in made:
            torch.mm(left, right, out=out)

    return work


def synthetic(
    data: DataSet, width: int, bench: Bench, seed: int = 0
) -> tuple[FeatureSet, Triplets]:
    """Random float16 features and triplets of a data set's size, on the device."""
    generator = torch.Generator().manual_seed(seed)
    images, texts = (
        random_features(bench.size(count), width, seed + place, torch.float16)
        for place, count in enumerate((data.images, data.texts))
    )

    def drawn(below: int, *shape: int) -> Tensor:
        return torch.randint(below, shape, generator=generator)

    count = bench.size(data.queries)
    made = {"key": "bench", "space": "shared"}
    features = FeatureSet.on(
        bench.device,
        Features([str(i) for i in range(len(images))], images.numpy(), made),
        Features([str(i) for i in range(len(texts))], texts.numpy(), made),
    )
    return features, Triplets(
        reference=drawn(len(images), count).to(bench.device),
        target=drawn(len(images), count).to(bench.device),
        texts=drawn(len(texts), count, 4).to(bench.device),
        text_count=torch.full((count,), 4, device=bench.device),
        category=torch.arange(count) % data.categories,
        images=len(images),
    )


def config(width: int) -> HeadConfig:
    """RAU's head as `params.yaml` has it."""
    params = Params()
    return HeadConfig.from_params(
        params.head.model_copy(update={"hidden": HIDDEN}),
        params.ua,
        params.train,
        d_image=width,
        d_text=width,
        shared_space=True,
        text_weight=0.5,
    )


def trainer(
    features: FeatureSet,
    queries: Triplets,
    width: int,
    batch: int = BATCH,
    precision: MatmulPrecision = "float32",
) -> Trainer:
    """A trainer whose holdout costs nothing."""
    torch.manual_seed(0)
    head = ComposedHead(config(width)).to(features.device)
    train = TrainParams(batch_size=batch, precision=precision)
    return Trainer(head, UA, train, queries, features, lambda _: {"mean_of_r10_r50": 0.0})


def one_step(made: Trainer) -> Callable[[], None]:
    """A step of a trainer, over and over on one batch."""
    return partial(_take, made, _begun(made)[:1])


def _begun(made: Trainer) -> list[Batch]:
    """The batches of an epoch, with the noise and the head as it begins."""
    made.head.noise.seed(0, made.features.device)
    made.head.train()
    return made.sampler.epoch(0)


def _take(made: Trainer, batches: Iterable[Batch]) -> None:
    with devices.matmul_precision(made.train.precision):
        for batch in batches:
            made._step(0, batch)


def cases(bench: Bench) -> Iterator[Result]:
    """All figures of training: of steps in float32, and in what the device does faster."""
    coarse: MatmulPrecision = "tf32" if bench.device.type == "cuda" else "bfloat16"
    for width in WIDTHS:
        yield from _fashioniq(bench, width, coarse)
    features, queries = synthetic(CIRR, 640, bench)
    made = [trainer(features, queries, 640, precision=kind) for kind in ("float32", coarse)]
    yield from _step(bench, "cirr/640", made)


def _floor(bench: Bench, made: Trainer) -> Callable[[], None]:
    width, rows = made.head.config.width, len(made.sampler.epoch(0)[0].query)
    return bare_products(products(rows, width, HIDDEN), bench.device)


def _in(precision: MatmulPrecision, work: Callable[[], None]) -> None:
    with devices.matmul_precision(precision):
        work()


def _step(bench: Bench, size: str, made: Sequence[Trainer]) -> Iterator[Result]:
    """A step in float32 and a coarser one, beside products in float32 and its own."""
    coarse = made[1].train.precision
    floor = _floor(bench, made[0])
    found = bench.turns(
        seconds=one_step(made[0]),
        coarse_seconds=one_step(made[1]),
        floor_seconds=floor,
        coarse_floor_seconds=partial(_in, coarse, floor),
    )
    for name, case, least, kind, limit in (
        (size, "seconds", "floor_seconds", "float32", 1.3),
        (f"{size}/{coarse}", "coarse_seconds", "floor_seconds", "float32", 1.3),
        (f"{size}/{coarse}/own", "coarse_seconds", "coarse_floor_seconds", coarse, None),
    ):
        yield Result(
            f"training/step/{name}",
            found[case] / found[least],
            "x",
            f"its matrix products in {kind}",
            limit,
            detail={"seconds": found[case], "floor_seconds": found[least]},
        )


def _fashioniq(bench: Bench, width: int, coarse: MatmulPrecision) -> Iterator[Result]:
    features, queries = synthetic(FASHIONIQ, width, bench)
    made = [trainer(features, queries, width, precision=kind) for kind in ("float32", coarse)]
    yield from _step(bench, f"fashioniq/{width}", made)
    floor, steps = _floor(bench, made[0]), made[0].sampler.steps

    def floors() -> None:
        for _ in range(steps):
            floor()

    found = bench.turns(
        ours=partial(_ours, made[0]),
        coarse=partial(_ours, made[1]),
        usual=_usual(bench, features, queries, width),
        products=floors,
        coarse_products=partial(_in, coarse, floors),
    )
    detail = {f"{name}_seconds": value for name, value in found.items()}
    usual = found["usual"] - found["products"]
    for case, least, own in (
        ("ours", "products", ""),
        ("coarse", "coarse_products", f"/{coarse}"),
    ):
        # Faster products are no overhead removed: each case is beside its own.
        yield Result(
            f"training/overhead removed/fashioniq/{width}{own}",
            1 - (found[case] - found[least]) / usual,
            "share",
            "what the usual loop does beside its products",
            0.9,
            "at least",
            detail,
        )
        yield Result(
            f"training/epoch/fashioniq/{width}{own}",
            found["usual"] / found[case],
            "times faster",
            "the usual loop",
            50.0 if bench.device.type == "cuda" else None,
            "at least",
            detail,
        )


def _ours(made: Trainer) -> None:
    """An epoch, with the drawing and looking up that comes before it."""
    _take(made, _begun(made))


def _usual(
    bench: Bench, features: FeatureSet, queries: Triplets, width: int
) -> Callable[[], float]:
    """An epoch of the usual loop; its workers start with every epoch, as they do there."""
    head = PlainHead(width, HIDDEN, 0.5).to(bench.device)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-4)
    rows = torch.stack([queries.reference, queries.target], dim=1).cpu()
    items = TripletDataset(
        torch.from_numpy(features.images.matrix),
        torch.from_numpy(features.texts.matrix),
        rows,
        queries.texts.cpu(),
    )
    loader = DataLoader(items, batch_size=BATCH, shuffle=True, num_workers=LOADER_WORKERS)
    numbers = Loss(UA.theta, UA.csu_weight, UA.dr_weight, 0.07)
    return partial(epoch, head, optimizer, loader, numbers, bench.device)
