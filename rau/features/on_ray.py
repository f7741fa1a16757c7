"""Encoding on a Ray cluster: every worker is the local engine with one core, or with a GPU and its
share of the cores.

A worker reads images by their paths and writes parts to a folder that all machines share, so that
only paths and names of parts are sent. Threads of the process that has the GPU decode for it. If a
worker dies, another worker encodes its block again.
"""

import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Self, cast

import torch

from rau.actors import check_room, divide, machines, places
from rau.cluster import connected
from rau.devices import threads
from rau.encoders import encoder as encoders
from rau.encoders.encoder import Encoder
from rau.encoders.forward import Precision
from rau.errors import UserError
from rau.features.cache import LocalEngine
from rau.features.extraction import ENCODE
from rau.features.items import blocks
from rau.features.parts import PART_ROWS, Parts
from rau.params import Params
from rau.progress import tqdm

PARAMETER = "features.engine"
# Ray and a worker take up to half a minute to start; fewer items are encoded faster without them.
FEW = {"images": 1024, "pairs": 1024, "texts": 65536}
# At least, so that workers end at about the same time.
BLOCKS_A_WORKER = 4
REMEDY = (
    "where memory is short, lower features.batch_size, or raise features.workers: a worker then "
    "has more cores, and a machine fewer workers"
)


@dataclass(frozen=True)
class Model:
    """The encoder that workers load: its folder, and the compute dtype of this machine's encoder.

    Attributes:
        key: key of the encoder, which must be the same on all machines.
        device: `train.device`; all values except `cpu` allow GPUs.
    """

    folder: Path
    key: str
    precision: Precision
    trust_remote_code: bool
    device: str

    @classmethod
    def of(cls, encoder: Encoder, folder: Path, params: Params) -> Self:
        """The model of an encoder that was loaded from this folder."""
        precision = cast(Precision, str(encoder.dtype).removeprefix("torch."))
        trusted, device = params.encoder.trust_remote_code, params.train.device
        return cls(folder.resolve(), encoder.key, precision, trusted, device)


class Worker:
    """An actor that encodes blocks of items."""

    def __init__(self, model: Model, parts: Parts, batch: int, cores: int, gpu: bool) -> None:
        self._model, self._parts, self._batch, self._cores = model, parts, batch, cores
        self._device = torch.device("cuda" if gpu else "cpu")

    @cached_property
    def _encoder(self) -> Encoder:
        own = self._model
        found = encoders.load(own.folder, self._device, own.precision, own.trust_remote_code)
        if found.key != own.key:
            raise UserError(f"{own.folder} contains another encoder on {socket.gethostname()}")
        return found

    def start(self) -> None:
        """Load the encoder.

        Raises:
            UserError: if the encoder differs, or this machine does not have the project's files.
        """
        if not self._parts.folder.is_dir():
            raise UserError(
                f"{self._parts.folder} does not exist on {socket.gethostname()}; every machine "
                "must have the project at the same path (docs/scale.md)"
            )
        _ = self._encoder

    def work(self, items: Sequence[Any]) -> list[str]:
        """Write parts of the items; returns their names."""
        with threads(self._cores):
            found = ENCODE[self._parts.kind](self._encoder, items, self._batch, self._cores)
            return self._parts.write(found, lambda count: None)


class OnRay:
    """An engine that encodes on a cluster; it connects when there is enough to encode."""

    def __init__(self, encoder: Encoder, model: Model, cores: int, stack: ExitStack) -> None:
        """Create the engine without connecting.

        Args:
            encoder: encodes on this machine if there are too few items to distribute.
            cores: cores of a worker; 0 = one core, or with a GPU its share of the cores.
            stack: closes the connection.
        """
        self._local, self._model = LocalEngine(encoder), model
        self._cores, self._stack = cores, stack

    @cached_property
    def _ray(self) -> ModuleType:
        return self._stack.enter_context(connected(PARAMETER))

    def _needs(self) -> tuple[bool, int]:
        """Whether workers have a GPU, and their cores: at most a machine's cores per GPU, so that
        all GPUs are used."""
        shares = [own // gpus for own, gpus in machines(self._ray) if gpus]
        gpu = self._model.device != "cpu" and bool(shares)
        return gpu, self._cores or (max(1, min(shares)) if gpu else 1)

    def __call__(
        self,
        parts: Parts,
        items: Sequence[Any],
        batch: int,
        workers: int,
        advance: Callable[[int], object],
    ) -> list[str]:
        """See `cache.Engine`.

        Raises:
            UserError: if a worker raises it, no machine has the cores or the GPU for a worker, or
                workers die repeatedly.
        """
        if len(items) < FEW[parts.kind]:
            tqdm.write(
                f"{PARAMETER}=ray: {len(items):,} {parts.kind} are too few to distribute and are "
                "encoded on this machine"
            )
            return self._local(parts, items, batch, workers, advance)
        ray = self._ray
        gpu, cores = self._needs()
        room = check_room(ray, cores, gpu, PARAMETER, "features.workers")
        parts.folder.mkdir(parents=True, exist_ok=True)
        share = -(-len(items) // (BLOCKS_A_WORKER * room))
        rows = min(PART_ROWS, -(-share // batch) * batch)
        actor = ray.remote(num_cpus=cores, num_gpus=int(gpu), max_restarts=0)(Worker)
        names: list[str] = []
        results = divide(
            ray,
            lambda: actor.remote(self._model, parts, batch, cores, gpu),
            lambda: min(places(ray, cores, int(gpu)), -(-len(items) // rows)),
            blocks(items, rows),
            REMEDY,
        )
        with closing(results):
            for block, own in results:
                names += own
                advance(len(block))
        return names
