"""The processes of one training, a device each: every one encodes its share of a batch.

Lightning Fabric starts them, or finds those of torchrun, and names their devices. What
they exchange are features and summed gradients, not the towers' graphs: features of the whole
batch are gathered without gradient, each process computes the loss on all of them, and takes the
gradient of its own share back through its towers. The negatives are those of the global batch.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Self, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn
from torch.distributed.distributed_c10d import _get_default_store

from rau import devices
from rau.errors import UserError
from rau.finetuning.alarm import Alarm

# How long processes wait for one that decodes or waits itself: whether one failed they know anyhow.
LONGEST = timedelta(days=7)
T = TypeVar("T")


class Processes:
    """This process and its peers; a context in which an error of any ends all.

    Attributes:
        rank: number of this process; the first, 0, writes files and shows progress.
        count: of all processes, over all nodes.
        local: of those on this node.
        device: of this process.
    """

    def __init__(self, device: str, count: int) -> None:
        """Start the others, or join those that torchrun started.

        Slurm's tasks are not processes of a training: one a node starts torchrun.

        Args:
            device: as `train.device` names it.
            count: processes of this node, where torchrun did not start them.

        Raises:
            UserError: when the machine has not so many devices, or they are started otherwise.
        """
        self.local = int(os.environ.get("LOCAL_WORLD_SIZE", count))
        everywhere = int(os.environ.get("WORLD_SIZE", self.local))
        if everywhere > 1 and device not in ("auto", "cpu", "cuda"):
            raise UserError(
                f"train.device={device} is one device, and {everywhere} processes need one each; "
                "use train.device=auto, or finetune.devices=1"
            )
        started = "LOCAL_WORLD_SIZE" in os.environ
        if not started and int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
            raise UserError("srun has to start one torchrun a node, as docs/encoders.md shows")
        kind = devices.choose(device).type
        if kind == "cuda" and self.local > torch.cuda.device_count():
            raise UserError(
                f"finetune.devices={self.local}: this machine has {torch.cuda.device_count()} GPUs"
            )
        self._fabric = Fabric(
            plugins=[TorchElasticEnvironment() if started else LightningEnvironment()],
            accelerator=kind,
            devices=self.local,
            num_nodes=max(1, everywhere // self.local),
            strategy=DDPStrategy(timeout=LONGEST) if everywhere > 1 else "auto",
        )
        self._fabric.launch()
        self.rank, self.count = self._fabric.global_rank, self._fabric.world_size
        self.device = self._fabric.device if self.count > 1 else devices.choose(device)
        self._alarm: Alarm | None = None

    def __enter__(self) -> Self:
        if self.count > 1:
            self._alarm = Alarm(_get_default_store(), self.rank, self.count)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._alarm is not None:
            self._alarm.end(kind is not None)

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """This process's part of the rows, nearly as many as each other's."""
        return rows.tensor_split(self.count)[self.rank]

    def gather(self, own: Tensor, rows: int) -> Tensor:
        """Features (N, d) of all processes in the order of the rows, of each one's share."""
        if self.count == 1:
            return own
        sizes = [len(part) for part in torch.empty(rows).tensor_split(self.count)]
        padded = nn.functional.pad(own, (0, 0, 0, sizes[0] - len(own)))
        with self._exchange():
            pieces = self._fabric.all_gather(padded)
        return torch.cat([piece[:size] for piece, size in zip(pieces, sizes, strict=True)])

    def sum_gradients(self, weights: Sequence[nn.Parameter]) -> None:
        """Replace the gradients of the weights by their sums over all processes."""
        grads = [weight.grad for weight in weights if weight.grad is not None]
        if self.count == 1 or not grads:  # A sum as composer has nothing to train.
            return
        flat = torch.cat([grad.flatten() for grad in grads])
        with self._exchange():
            total = torch.as_tensor(self._fabric.all_reduce(flat, reduce_op="sum"))
        sizes = [grad.numel() for grad in grads]
        for grad, summed in zip(grads, torch.split(total, sizes), strict=True):
            grad.copy_(summed.view_as(grad))

    def average_gradients(self, weights: Sequence[nn.Parameter]) -> None:
        """Make gradients that every process computed for itself the same to the last digit."""
        for weight in weights:
            if weight.grad is not None:
                weight.grad /= self.count
        self.sum_gradients(weights)

    def of_the_first(self, value: T) -> T:
        """The value of the first process, by which all decide."""
        with self._exchange():
            return self._fabric.broadcast(value) if self.count > 1 else value

    def wait(self) -> None:
        """Wait until every process is here."""
        with self._exchange():
            self._fabric.barrier()

    @contextmanager
    def first_ahead(self) -> Iterator[None]:
        """Let the first process do it before the others, which find what it stored."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    @contextmanager
    def _exchange(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # Of torch.distributed, which has no narrower one.
            raise UserError(
                f"process {self.rank} of {self.count} lost another one, which was killed or cannot "
                "be reached any more; run it again to resume"
            ) from error
