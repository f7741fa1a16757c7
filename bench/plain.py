"""Common training loops of the field: items are fetched one by one and collated by a `DataLoader`.

One trains RAU's head, implemented directly from its definition; the other is the first stage of
CLIP4Cir (Baldrati et al. 2022). Tests compare both with the library's losses.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from rau.encoders.clip import Encoder
from rau.encoders.forward import autocast
from rau.nn.gaussian import LOG_VAR_MAX, LOG_VAR_MIN
from rau.params import UaParams
from rau.training.triplets import Triplets

Item = dict[str, Tensor]


class TripletDataset(Dataset[Item]):
    """Data set of features of a reference, one of its captions, and the target."""

    def __init__(self, images: Tensor, texts: Tensor, rows: Tensor, captions: Tensor) -> None:
        """Features (N, d) and (T, d); rows (Q, 2) of reference and target; captions (Q, 4)."""
        self.images, self.texts, self.rows, self.captions = images, texts, rows, captions

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Item:
        reference, target = self.rows[index]
        text = self.captions[index, torch.randint(self.captions.shape[1], ())]
        return {
            "reference": self.images[reference].float(),
            "text": self.texts[text].float(),
            "target": self.images[target].float(),
            "target_id": target,
        }


def trunk(inputs: int, hidden: int, dropout: float) -> nn.Sequential:
    """Create the hidden layer."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(dropout)
    )


class Block(nn.Module):
    """Uncertainty augmenter: maps (B, d) to unit means and sigmas."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.trunk = trunk(width, hidden, dropout)
        self.to_shift = nn.Linear(hidden, width)
        self.to_log_var = nn.Linear(hidden, width)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(h)
        log_var = self.to_log_var(features).clamp(LOG_VAR_MIN, LOG_VAR_MAX)
        return F.normalize(h + self.to_shift(features), dim=-1), torch.exp(log_var / 2)


class PlainHead(nn.Module):
    """RAU's head with one block per side in a shared space, and the same order of parameters."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * width, width)
        self.mlp = nn.Sequential(trunk(2 * width, hidden, dropout), nn.Linear(hidden, width))
        self.source_block = Block(width, hidden, dropout)
        self.target_block = Block(width, hidden, dropout)

    def forward(self, item: Item) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return mean and sigma of the source, and mean and sigma of the target."""
        reference, text, target = (
            F.normalize(item[name], dim=-1) for name in ("reference", "text", "target")
        )
        both = torch.cat([reference, text], dim=-1)
        gate = torch.sigmoid(self.gate(both))
        fused = gate * reference + (1 - gate) * text + self.mlp(both)
        return *self.source_block(fused), *self.target_block(target)


def info_nce(logits: Tensor, positives: Tensor) -> Tensor:
    """InfoNCE in both directions, with the mean of log softmax over the positives of each row."""
    losses = []
    for one, mask in ((logits, positives), (logits.T, positives.T)):
        log_p = F.log_softmax(one, dim=1).masked_fill(~mask, 0)
        losses.append(-(log_p.sum(1) / mask.sum(1)).mean())
    return torch.stack(losses).mean()


def loss_of(head: PlainHead, item: Item, ua: UaParams, temperature: float) -> Tensor:
    """Weighted sum of the losses of a batch: base (with ISU if `ua.isu`), CSU and DR."""
    mean_s, sigma_s, mean_t, sigma_t = head(item)
    z_s, z_t = mean_s, mean_t
    if ua.isu:
        z_s = F.normalize(mean_s + sigma_s * torch.randn_like(mean_s), dim=-1)
        z_t = F.normalize(mean_t + sigma_t * torch.randn_like(mean_t), dim=-1)
    logits = z_s @ z_t.T / temperature
    same = item["target_id"][:, None] == item["target_id"][None, :]
    near = mean_s.detach() @ mean_t.detach().T >= ua.theta
    dr = ((mean_s - mean_t) ** 2).sum(-1) + ((sigma_s - sigma_t) ** 2).sum(-1)
    csu = info_nce(logits, same | near)
    total: Tensor = info_nce(logits, same) + ua.csu_weight * csu + ua.dr_weight * dr.mean()
    return total


def epoch(
    head: PlainHead,
    optimizer: torch.optim.Optimizer,
    loader: "DataLoader[Item]",
    ua: UaParams,
    temperature: float,
) -> float:
    """Train one epoch and return the mean loss, which is read at every step as by progress bars."""
    device = head.gate.weight.device
    head.train()
    total = 0.0
    for item in loader:
        item = {name: value.to(device) for name, value in item.items()}
        loss = loss_of(head, item, ua, temperature)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        total += loss.item()
    return total / len(loader)


class PictureTriplets(Dataset[tuple[Tensor, Tensor, str]]):
    """Data set of pixels of reference and target, decoded at each access, and one caption."""

    def __init__(
        self, encoder: Encoder, paths: Sequence[Path], texts: Sequence[str], triplets: Triplets
    ) -> None:
        """Files and captions, indexed by the rows in the triplets."""
        self.preprocess, self.paths, self.texts = encoder.preprocess, paths, texts
        self.triplets = triplets

    def __len__(self) -> int:
        return len(self.triplets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, str]:
        forms = self.triplets.texts[index]
        text = self.texts[int(forms[torch.randint(len(forms), ())])]
        reference, target = (
            self.preprocess(Image.open(self.paths[int(rows[index])]))
            for rows in (self.triplets.reference, self.triplets.target)
        )
        return reference, target, text


def clip4cir_epoch(
    encoder: Encoder,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    loader: "DataLoader[tuple[Tensor, Tensor, str]]",
) -> float:
    """Train both towers for one epoch with one-way InfoNCE of the normalised sum; mean loss."""
    model, device, total = encoder.model, encoder.device, 0.0
    for reference, target, texts in loader:
        tokens = encoder.tokenizer(texts).to(device)
        optimizer.zero_grad()
        with autocast(encoder.dtype, device):
            query = model.encode_image(reference.to(device)) + model.encode_text(tokens)
            found = F.normalize(model.encode_image(target.to(device)), dim=-1)
            logits = 100 * F.normalize(query, dim=-1) @ found.T
            loss = F.cross_entropy(logits, torch.arange(len(logits), device=device))
        torch.autograd.backward(scaler.scale(loss))
        scaler.step(optimizer)
        scaler.update()
        total += loss.item()
    return total / len(loader)
