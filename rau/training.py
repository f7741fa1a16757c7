"""Training a head on cached features, all of them on the device.

Every epoch reseeds from the run's seed, so a run that was stopped goes on with the same digits.
Batches and captions are drawn apart from the head's own noise: for one seed every method sees the
same batches.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer
from tqdm import tqdm

from rau import checkpoint
from rau.errors import UserError
from rau.evaluation import FeatureSet
from rau.head import ComposedHead, HeadConfig
from rau.losses import Terms, same_target
from rau.objectives import loss_terms
from rau.params import TrainParams, UaParams
from rau.schedule import factor

SEED_STRIDE = 1_000_003
Metrics = dict[str, float]


class NotFinite(UserError):
    """A loss or a statistic of an epoch is not finite."""


@dataclass(frozen=True)
class TrainQueries:
    """Q train queries as rows of the feature matrices, on their device.

    Attributes:
        reference, target: rows of the image features, (Q,).
        texts: rows of the text features, (Q, 4); the first `text_count` of each are drawn from.
        text_count: (Q,).
        category: a number a category, (Q,).
        truth: sorted codes query * images + image of all true answers; None where not known.
        images: number of rows of the image features.
    """

    reference: Tensor
    target: Tensor
    texts: Tensor
    text_count: Tensor
    category: Tensor
    truth: Tensor | None = None
    images: int = 0

    def __len__(self) -> int:
        return len(self.reference)

    def true_pairs(self, rows: Tensor, targets: Tensor) -> Tensor | None:
        """Which image of `targets` (B,) answers which query of `rows` (B,): (B, B), or None."""
        if self.truth is None or len(self.truth) == 0:
            return None
        codes = rows[:, None] * self.images + targets[None, :]
        place = torch.searchsorted(self.truth, codes).clamp(max=len(self.truth) - 1)
        return self.truth[place] == codes


@dataclass
class Progress:
    """What a run has reached: enough to go on from."""

    epoch: int = 0
    best_epoch: int = 0
    best_value: float = -math.inf
    history: list[dict[str, float | int | None]] = field(default_factory=list)


def batches(
    category: Tensor, batch_size: int, mixed: bool, generator: torch.Generator
) -> Iterator[Tensor]:
    """One epoch of row numbers in even batches, of one category each unless `mixed`.

    The number of batches is n / batch_size, rounded; none is a small remainder.
    """
    groups = [torch.arange(len(category))]
    if not mixed:
        groups = [torch.nonzero(category == value).flatten() for value in torch.unique(category)]
    chunks = [
        chunk
        for rows in groups
        for chunk in rows[torch.randperm(len(rows), generator=generator)].tensor_split(
            max(1, round(len(rows) / batch_size))
        )
    ]
    for index in torch.randperm(len(chunks), generator=generator).tolist():
        yield chunks[index]


def csu_counts(positives: Tensor, base: Tensor, truth: Tensor | None) -> Tensor:
    """Pairs that CSU adds, those of them that are true, and all true pairs it could add: (3,)."""
    extra = positives & ~base
    if truth is None:
        return torch.stack([extra.sum(), extra.sum() * 0, extra.sum() * 0]).float()
    wanted = truth & ~base
    return torch.stack([extra.sum(), (extra & wanted).sum(), wanted.sum()]).float()


class Trainer:
    """One run: the head, its optimizer, and the best weights so far."""

    def __init__(
        self,
        config: HeadConfig,
        train: TrainParams,
        ua: UaParams,
        features: FeatureSet,
        queries: TrainQueries,
        validate: Callable[[ComposedHead], Metrics],
    ) -> None:
        self.train_params, self.ua = train, ua
        self.features, self.queries, self.validate = features, queries, validate
        device = features.device
        self.devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(self.devices):
            torch.manual_seed(train.seed)
            self.head = ComposedHead(config).to(device)
        self.optimizer = None
        if list(self.head.parameters()):
            self.optimizer = torch.optim.AdamW(
                _decayed_matrices(self.head, train.weight_decay), lr=train.lr, fused=True
            )
        self.category = queries.category.cpu()
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}

    def run(self, state: Path | None, quiet: bool = False) -> tuple[ComposedHead, Progress]:
        """Train to the last epoch, from `state` where an earlier run was stopped.

        A head that has nothing to learn is measured once, as epoch 0.

        Args:
            state: where to keep what a stopped run goes on from; None keeps nothing.
            quiet: without a progress bar.

        Returns the head with the weights of the best epoch.

        Raises:
            NotFinite: when the loss is not.
        """
        if self.optimizer is None:
            holdout = self._holdout()
            row = {"epoch": 0} | dict.fromkeys(_summary_names()) | holdout
            self.progress = Progress(best_value=holdout[self._selected], history=[row])
            return self.head.eval(), self.progress
        if state is not None and state.exists():
            self._restore(state)
        epochs = self.train_params.epochs
        with tqdm(
            total=epochs,
            initial=self.progress.epoch,
            desc="train head",
            unit="epoch",
            disable=quiet,
        ) as bar:
            while self.progress.epoch < epochs:
                row = self._epoch(self.progress.epoch, self.optimizer)
                self._keep(row)
                if state is not None:
                    self._save(state, self.optimizer)
                bar.update()
                bar.set_postfix(
                    {"loss": row["loss"], self.train_params.select: row[self._selected]}
                )
        self.head.load_state_dict(self.best)
        return self.head.eval(), self.progress

    @property
    def _selected(self) -> str:
        return f"holdout_{self.train_params.select}"

    def _holdout(self) -> dict[str, float]:
        return {f"holdout_{name}": value for name, value in self.validate(self.head).items()}

    def _epoch(self, epoch: int, optimizer: Optimizer) -> dict[str, float | int | None]:
        train = self.train_params
        with torch.random.fork_rng(self.devices):
            torch.manual_seed(train.seed * SEED_STRIDE + epoch + 1)
            generator = torch.Generator().manual_seed(train.seed * SEED_STRIDE + epoch + 1)
            rows = list(
                batches(self.category, train.batch_size, train.batches == "mixed", generator)
            )
            texts = self._draw_texts(epoch)
            self.head.train()
            sums = torch.zeros(len(STATISTICS), device=self.features.device)
            steps = train.epochs * len(rows)
            for number, batch in enumerate(rows, epoch * len(rows)):
                for group in optimizer.param_groups:
                    group["lr"] = train.lr * factor(number, steps)
                batch = batch.to(self.features.device)
                sums += self._step(batch, texts[batch], number / steps, optimizer)
        values = dict(zip(STATISTICS, sums.tolist(), strict=True))
        self._check_finite(values, epoch)
        known = self.queries.truth is not None and self.ua.csu_weight > 0
        row = _summary(values, len(self.queries), len(rows), known)
        row |= {
            "temperature": self.head.temperature.item(),
            "lr": optimizer.param_groups[0]["lr"],
        }
        return {"epoch": epoch + 1} | row | self._holdout()

    def _draw_texts(self, epoch: int) -> Tensor:
        """A text for every query, as rows of the text features, (Q,), however batches are made."""
        queries = self.queries
        seed = self.train_params.seed * SEED_STRIDE + epoch + 1
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.rand(len(queries), generator=generator).to(queries.text_count.device)
        place = (drawn * queries.text_count).long()
        return queries.texts.gather(1, place[:, None]).squeeze(1)

    def _step(self, batch: Tensor, texts: Tensor, progress: float, optimizer: Optimizer) -> Tensor:
        """One update; returns what `STATISTICS` names, without waiting for the device."""
        queries = self.queries
        target = queries.target[batch]
        source = self.head.forward_source(
            self.features.image_rows(queries.reference[batch]), self.features.text_rows(texts)
        )
        goal = self.head.forward_target(self.features.image_rows(target))
        terms = loss_terms(
            self.head, source, goal, target, self.ua, self.train_params.two_way, progress
        )
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(terms.total)
        norm = get_total_norm([p.grad for p in self.head.parameters() if p.grad is not None])
        optimizer.step()
        return self._statistics(terms, source.uncertainty, goal.uncertainty, norm, batch, target)

    @torch.no_grad()
    def _statistics(
        self,
        terms: Terms,
        source: Tensor,
        goal: Tensor,
        norm: Tensor,
        batch: Tensor,
        target: Tensor,
    ) -> Tensor:
        losses = torch.stack([terms.total, terms.base, terms.csu, terms.dr]).detach()
        truth = self.queries.true_pairs(batch, target) if self.ua.csu_weight > 0 else None
        base = same_target(target)
        counts = csu_counts(terms.positives, base, truth)
        pairs = (~base).sum().float()
        sigmas = torch.stack([source.sum(), goal.sum()])
        return torch.cat([losses * len(batch), sigmas, norm[None], counts, pairs[None]])

    def _check_finite(self, values: Metrics, epoch: int) -> None:
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            raise NotFinite(
                f"not finite in epoch {epoch + 1}: {', '.join(bad)}; lower train.lr, ua.csu_weight "
                "or ua.dr_weight, or raise train.temperature"
            )

    def _keep(self, row: dict[str, float | int | None]) -> None:
        progress = self.progress
        progress.epoch += 1
        progress.history.append(row)
        value = row[self._selected]
        assert value is not None  # The holdout's metrics are means of numbers.
        if value > progress.best_value:
            progress.best_value, progress.best_epoch = float(value), progress.epoch
            self.best = {k: v.detach().clone() for k, v in self.head.state_dict().items()}

    def _save(self, path: Path, optimizer: Optimizer) -> None:
        tensors = {f"head.{k}": v for k, v in self.head.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        for number, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{k}": v for k, v in values.items()}
        checkpoint.save_state(path, tensors, vars(self.progress))

    def _restore(self, path: Path) -> None:
        tensors, meta = checkpoint.load_state(path)
        self.progress = Progress(**meta)
        self.head.load_state_dict(_under(tensors, "head."))
        self.best = _under(tensors, "best.")
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(tensors, "optimizer.").items():
            number, key = name.split(".")
            state.setdefault(int(number), {})[key] = value
        assert self.optimizer is not None  # Only a head that learns is ever saved.
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


STATISTICS = (
    "loss",
    "base",
    "csu",
    "dr",
    "sigma_source",
    "sigma_target",
    "gradient_norm",
    "csu_added",
    "csu_true",
    "csu_wanted",
    "pairs",
)


def _summary(values: Metrics, queries: int, steps: int, truth_known: bool) -> dict[str, Any]:
    """Means of an epoch: losses and sigma a query, gradient norm a step, CSU's counts as rates."""
    row: dict[str, Any] = {name: values[name] / queries for name in STATISTICS[:6]}
    added, true, wanted = (values[name] for name in ("csu_added", "csu_true", "csu_wanted"))
    row["gradient_norm"] = values["gradient_norm"] / steps
    row["csu_added_per_row"] = added / queries
    row["csu_share"] = added / values["pairs"] if values["pairs"] else None
    row["csu_precision"] = true / added if truth_known and added else None
    row["csu_recall"] = true / wanted if truth_known and wanted else None
    return row


def _summary_names() -> list[str]:
    nothing = dict.fromkeys(STATISTICS, 0.0)
    return [*_summary(nothing, 1, 1, False), "temperature", "lr"]


def _decayed_matrices(head: ComposedHead, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: biases, norms and the temperature have no reason to shrink to nought."""
    parameters = list(head.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def pad_texts(texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Rows of one to four numbers as (Q, 4), padded with the first, and their counts (Q,)."""
    padded = [[*row, *[row[0]] * (4 - len(row))] for row in texts]
    return torch.tensor(padded), torch.tensor([len(row) for row in texts])
