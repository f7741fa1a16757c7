"""The field's usual training loop, plainly: items one by one, collated by workers.

The head and the losses are RAU's as `rau` has them, in the words in which one would first write
them down; tests hold the two together.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from rau.models.head import ComposedHead
from rau.nn.gaussian import LOG_VAR_MAX, LOG_VAR_MIN

Item = dict[str, Tensor]


@dataclass(frozen=True)
class Loss:
    """Numbers of the loss: theta, the weights of CSU and DR, the temperature."""

    theta: float
    csu_weight: float
    dr_weight: float
    temperature: float


class TripletDataset(Dataset[Item]):
    """One item at a time: features of the reference, of one of its captions, of the target."""

    def __init__(self, images: Tensor, texts: Tensor, rows: Tensor, captions: Tensor) -> None:
        """Features (N, d) and (T, d); rows (Q, 2) of reference and target; captions (Q, 4)."""
        self.images, self.texts, self.rows, self.captions = images, texts, rows, captions

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Item:
        reference, target = self.rows[index].tolist()
        drawn = int(torch.randint(self.captions.shape[1], ()))
        return {
            "reference": self.images[reference].float(),
            "text": self.texts[int(self.captions[index, drawn])].float(),
            "target": self.images[target].float(),
            "target_id": torch.tensor(target),
        }


def trunk(inputs: int, hidden: int, dropout: float) -> nn.Sequential:
    """The hidden layer."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(dropout)
    )


class Block(nn.Module):
    """One uncertainty augmenter."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.trunk = trunk(width, hidden, dropout)
        self.to_shift = nn.Linear(hidden, width)
        self.to_log_var = nn.Linear(hidden, width)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """(B, d) to means and log variances."""
        features = self.trunk(h)
        log_var = self.to_log_var(features).clamp(LOG_VAR_MIN, LOG_VAR_MAX)
        return F.normalize(h + self.to_shift(features), dim=-1), log_var


class PlainHead(nn.Module):
    """RAU's head with one block a side, in a shared space."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * width, width)
        self.mlp = nn.Sequential(trunk(2 * width, hidden, dropout), nn.Linear(hidden, width))
        self.source_block = Block(width, hidden, dropout)
        self.target_block = Block(width, hidden, dropout)

    def take(self, head: ComposedHead) -> None:
        """The weights of one of ours."""
        names = {
            "fusion.": "",
            "source_blocks.0.": "source_block.",
            "target_blocks.0.": "target_block.",
        }
        state = {}
        for name, value in head.state_dict().items():
            for ours, own in names.items():
                if name.startswith(ours):
                    state[own + name.removeprefix(ours)] = value
        self.load_state_dict(state)

    def forward(self, item: Item) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """A batch to the Gaussians of both paths."""
        reference = F.normalize(item["reference"], dim=-1)
        text = F.normalize(item["text"], dim=-1)
        both = torch.cat([reference, text], dim=-1)
        gate = torch.sigmoid(self.gate(both))
        fused = gate * reference + (1 - gate) * text + self.mlp(both)
        target = F.normalize(item["target"], dim=-1)
        return self.source_block(fused), self.target_block(target)


def info_nce(logits: Tensor, positives: Tensor) -> Tensor:
    """Both directions, the mean of log softmax over the positives of a row."""
    total = logits.new_zeros(())
    for one, mask in ((logits, positives), (logits.T, positives.T)):
        log_p = F.log_softmax(one, dim=1).masked_fill(~mask, 0)
        total = total - (log_p.sum(1) / mask.sum(1)).mean() / 2
    return total


def loss_of(head: PlainHead, item: Item, numbers: Loss, sample: bool) -> Tensor:
    """Base or ISU, CSU and DR of a batch."""
    (mu_s, var_s), (mu_t, var_t) = head(item)
    sigma_s, sigma_t = torch.exp(var_s / 2), torch.exp(var_t / 2)
    z_s, z_t = mu_s, mu_t
    if sample:
        z_s = mu_s + sigma_s * torch.randn_like(mu_s)
        z_t = mu_t + sigma_t * torch.randn_like(mu_t)
    logits = F.normalize(z_s, dim=-1) @ F.normalize(z_t, dim=-1).T / numbers.temperature
    same = item["target_id"][:, None] == item["target_id"][None, :]
    base = info_nce(logits, same)
    with torch.no_grad():
        near = F.normalize(mu_s, dim=-1) @ F.normalize(mu_t, dim=-1).T >= numbers.theta
    csu = info_nce(logits, same | near)
    dr = ((mu_s - mu_t) ** 2).sum(-1) + ((sigma_s - sigma_t) ** 2).sum(-1)
    total: Tensor = base + numbers.csu_weight * csu + numbers.dr_weight * dr.mean()
    return total


def epoch(
    head: PlainHead,
    optimizer: torch.optim.Optimizer,
    loader: "DataLoader[Item]",
    numbers: Loss,
    device: torch.device,
) -> float:
    """One epoch; the mean loss, read at every step as progress bars do."""
    head.train()
    total = 0.0
    for item in loader:
        item = {name: value.to(device) for name, value in item.items()}
        loss = loss_of(head, item, numbers, sample=True)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(head.parameters(), math.inf)
        optimizer.step()
        total += loss.item()
    return total / len(loader)
