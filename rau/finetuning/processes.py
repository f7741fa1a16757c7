"""The processes of one training, a device each: every one encodes its share of a batch.

Lightning Fabric starts them, or finds those of torchrun, and names their devices. What
they exchange are features and summed gradients, not the towers' graphs: features of the whole
batch are gathered without gradient, each process computes the loss on all of them, and takes the
gradient of its own share back through its towers. The negatives are those of the global batch.
"""

import os
from collections.abc import Sequence
from typing import TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor, nn

from rau import devices
from rau.errors import UserError

T = TypeVar("T")


class Processes:
    """This process and its peers.

    Attributes:
        rank: number of this process; the first, 0, writes files and shows progress.
        count: of all processes, over all nodes.
        device: of this process.
    """

    def __init__(self, device: str, count: int) -> None:
        """Start the others, or join those that torchrun or Slurm started.

        Args:
            device: as `train.device` names it.
            count: processes of this node, where nothing else started them.

        Raises:
            UserError: when the machine has not so many devices.
        """
        kind = devices.choose(device).type
        local = int(os.environ.get("LOCAL_WORLD_SIZE", count))
        everywhere = int(os.environ.get("WORLD_SIZE", local))
        if kind == "cuda" and local > torch.cuda.device_count():
            raise UserError(
                f"finetune.devices={local}: this machine has {torch.cuda.device_count()} GPUs"
            )
        # Under Slurm, Fabric would wait for tasks that srun starts; torchrun says who is there.
        started = "LOCAL_WORLD_SIZE" in os.environ
        self._fabric = Fabric(
            plugins=[] if started else [LightningEnvironment()],
            accelerator=kind,
            devices=local,
            num_nodes=max(1, everywhere // local),
            strategy="ddp" if everywhere > 1 else "auto",
        )
        self._fabric.launch()
        self.rank, self.count = self._fabric.global_rank, self._fabric.world_size
        self.device = self._fabric.device if self.count > 1 else devices.choose(device)

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
        pieces = self._fabric.all_gather(padded)
        return torch.cat([piece[:size] for piece, size in zip(pieces, sizes, strict=True)])

    def sum_gradients(self, weights: Sequence[nn.Parameter]) -> None:
        """Replace the gradients of the weights by their sums over all processes."""
        if self.count == 1:
            return
        grads = [weight.grad for weight in weights if weight.grad is not None]
        flat = torch.cat([grad.flatten() for grad in grads])
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
        return self._fabric.broadcast(value) if self.count > 1 else value

    def wait(self) -> None:
        """Wait until every process is here."""
        self._fabric.barrier()
