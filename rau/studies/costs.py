"""A measure of studies: what a head costs, in training and at test time, by the features' width."""

import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from rau.models.config import canonical, without_uncertainty
from rau.models.head import ComposedHead, UncertaintyAugmenter
from rau.params import Params
from rau.retrieval.ranking import rank
from rau.studies.runs import Trained

WIDTHS = (128, 640, 1024)
NUMBERS = (
    "parameters",
    "step_flops",
    "step_seconds",
    "step_bytes",
    "query_flops",
    "image_flops",
    "query_seconds",
    "image_seconds",
    "rank_seconds",
    "partner_query_flops",
)
QUERIES, IMAGES, TOP_K, REPEATS = 512, 2048, 50, 7
Floats = NDArray[np.float64]


def cost(trained: Trained) -> Mapping[str, NDArray[Any]]:
    """Of a head of this configuration on random features of each width that share a space.

    Seeds cost the same: only seed 0 is measured, on the run's device and with its threads.

    Returns:
        `numbers`, (widths, NUMBERS): parameters; of a training step FLOPs, median seconds and the
        bytes of all live tensors at its peak; FLOPs and median seconds of encoding one query and
        one image; seconds of ranking one query in a gallery of `IMAGES`; FLOPs of one query of the
        deterministic head with as many blocks, without their layers of the variance.
        `ratio`, (widths, REPEATS): time to encode queries and images over that of this
        deterministic head, in turns.
    """
    params = trained.params
    if params.train.seed != 0:
        return {}
    device = trained.data.features.device
    rows, ratios = [], []
    for width in WIDTHS:
        own, partner = (
            _head(trained, one, width).to(device)
            for one in (canonical(params), without_uncertainty(params))
        )
        training = _training(own, canonical(params), device)
        found, ratio = _test_time(own, _without_variance(partner), width, device)
        weights = sum(weight.numel() for weight in own.parameters())
        rows.append([weights, *training, *found])
        ratios.append(ratio)
    return {"numbers": np.array(rows, np.float64), "ratio": np.array(ratios, np.float64)}


def _head(trained: Trained, params: Params, width: int) -> ComposedHead:
    """An untrained head of these parameters for features of a width."""
    changes: dict[str, Any] = {"d_image": width, "d_text": width, "shared_space": True}
    changes |= {"name": params.head.name, "n": params.ua.n, "isu": params.ua.isu}
    return ComposedHead(trained.head.config.model_copy(update=changes))


class _Constant(nn.Module):
    """A log variance of 0 that nothing is computed for."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, features: Tensor) -> Tensor:
        """Zeros (B, d) of features (B, hidden)."""
        return features.new_zeros(1, 1).expand(len(features), self.width)


def _without_variance(head: ComposedHead) -> ComposedHead:
    """A head whose blocks compute means only: what a deterministic method needs at test time."""
    for block in head.modules():
        if isinstance(block, UncertaintyAugmenter):
            block.register_module("to_log_var", _Constant(block.to_shift.out_features))
    return head


def _training(head: ComposedHead, params: Params, device: torch.device) -> tuple[float, ...]:
    """FLOPs, median seconds and peak bytes of a step; zeros where nothing is trained."""
    weights = [weight for weight in head.parameters() if weight.requires_grad]
    if not weights:
        return 0.0, 0.0, 0.0
    optimizer = torch.optim.AdamW(weights)
    count, width = params.train.batch_size, head.config.d_image
    reference, text, image = torch.randn(3, count, width, device=device)
    targets = torch.arange(count, device=device)
    head.train()

    def step() -> None:
        source, target = head.forward_source(reference, text), head.forward_target(image)
        terms = head.loss(source, target, targets, params.ua, params.train.two_way, 0.5)
        optimizer.zero_grad()
        torch.autograd.backward(terms.total)
        optimizer.step()

    step()  # Makes the optimizer's state.
    state = [*head.parameters(), *head.buffers()]
    state += [v for own in optimizer.state.values() for v in own.values() if torch.is_tensor(v)]
    kept = sum(tensor.nbytes for tensor in state)
    return flops(step), float(np.median(seconds(device, step)[0])), kept + peak_bytes(step)


def _test_time(
    head: ComposedHead, partner: ComposedHead, width: int, device: torch.device
) -> tuple[list[float], Floats]:
    """The numbers of test time, and the ratio of times to those of the partner."""
    reference, text = torch.randn(2, QUERIES, width, device=device)
    images = torch.randn(IMAGES, width, device=device)
    queries, gallery = head.encode_query(reference, text)[0], head.encode_gallery(images)[0]
    none = torch.full((QUERIES,), -1, device=device)

    def encode(one: ComposedHead) -> tuple[Callable[[], object], Callable[[], object]]:
        return lambda: one.encode_query(reference, text), lambda: one.encode_gallery(images)

    own, theirs = encode(head), encode(partner)
    taken = seconds(device, *own, *theirs, lambda: rank(queries, gallery, none, none, TOP_K))
    query, image, ranked = (np.median(taken[place]) for place in (0, 1, 4))
    found = [
        *(flops(own[0]) / QUERIES, flops(own[1]) / IMAGES),
        *(query / QUERIES, image / IMAGES, ranked / QUERIES),
        flops(theirs[0]) / QUERIES,
    ]
    return [float(value) for value in found], (taken[0] + taken[1]) / (taken[2] + taken[3])


def flops(work: Callable[[], object]) -> float:
    """Floating point operations of matrix products and alike."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def seconds(device: torch.device, *work: Callable[[], object]) -> Floats:
    """Seconds of each piece of work, in turns after one that is not counted, (work, REPEATS)."""
    taken = np.zeros((len(work), REPEATS + 1))
    for turn in range(REPEATS + 1):
        for place, one in enumerate(work):
            started = time.perf_counter()
            one()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            taken[place, turn] = time.perf_counter() - started
    return taken[:, 1:]


def peak_bytes(work: Callable[[], object]) -> int:
    """Bytes of the tensors that the work makes, at the moment when most are alive."""
    with _Live() as live:
        work()
    return int(live.peak)


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of storages that operations make, from then until they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {storage_key(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor) and storage_key(tensor) not in before | self._known:
                storage = tensor.untyped_storage()
                self._known.add(storage_key(tensor))
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._freed, storage_key(tensor), storage.nbytes())
        return found

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def storage_key(tensor: Tensor) -> int:
    """What tells a tensor's storage from others that are alive."""
    return int(tensor.untyped_storage()._cdata)
