"""Training a head on cached features, all of them on the device.

Every epoch reseeds its random streams (`seeds`), so a run that was stopped resumes
bit-identically, and for one seed every method sees the same batches and captions.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor
from torch.nn.utils import get_total_norm

from rau import devices
from rau.errors import UserError
from rau.lr_schedule import WARM_UP, factor
from rau.models import checkpoint
from rau.models.head import ComposedHead
from rau.params import TrainParams, UaParams, first_error
from rau.progress import tqdm
from rau.retrieval.feature_set import FeatureSet
from rau.training import epoch_statistics, optimizer_state
from rau.training.sampler import Batch, BatchSampler
from rau.training.seeds import Stream, epoch_seed
from rau.training.triplets import Triplets

Metrics = dict[str, float]
Row = dict[str, float | int | None]


class NotFinite(UserError):
    """A loss or a statistic of an epoch is not finite."""


@dataclass
class TrainingState:
    """Training state, except for the weights; the history begins with epoch 0, before any step."""

    epoch: int = 0
    best_epoch: int = 0
    best_value: float = -math.inf
    history: list[Row] = field(default_factory=list)


class Trainer:
    """Trains one head with AdamW and keeps the weights of its best epoch, or those it started with
    where the holdout finds none better: a head starts as a sum of reference and caption with a
    weight from the holdout, and few or wrong train queries can only harm that.

    With `train.ema` the holdout sees, and the head keeps, a moving average of the weights.
    """

    def __init__(
        self,
        head: ComposedHead,
        ua: UaParams,
        train: TrainParams,
        queries: Triplets,
        features: FeatureSet,
        validate: Callable[[ComposedHead], Metrics],
    ) -> None:
        """Set up the optimizer.

        Args:
            head: on the features' device.
            ua: canonical, so that terms which the method does not have are off.
            train: how to train; its seed is that of batches, captions and noise.
            queries: to train on.
            features: that queries name rows of.
            validate: metrics on the holdout; `train.select` names the one that chooses the epoch.
        """
        self.head, self.ua, self.train = head, ua, train
        self.features, self.validate = features, validate
        self.sampler = BatchSampler(queries, train)
        self.reached = TrainingState()
        self.best: dict[str, Tensor] = {}
        self.weights = list(head.parameters())
        # What `state_dict` returns shares its memory with the head.
        self.current = {k: v for k, v in head.state_dict().items() if v.is_floating_point()}
        self.average = {k: v.clone() for k, v in self.current.items()} if train.ema else {}
        # Biases, norms and the temperature have no reason to shrink.
        groups = [
            {"params": [w for w in self.weights if w.ndim > 1], "weight_decay": train.weight_decay},
            {"params": [w for w in self.weights if w.ndim <= 1], "weight_decay": 0.0},
        ]
        if groups := [group for group in groups if group["params"]]:
            self.optimizer = torch.optim.AdamW(groups, lr=train.lr, fused=True)

    def run(self, state: Path | None, quiet: bool = False) -> TrainingState:
        """Train until the holdout stops improving, resuming from `state` where it exists.

        That is when `train.patience` epochs in a row are no better than the best, not counting
        epoch 0, as a training may first fall and then rise; `train.epochs` bounds the training. A
        head without parameters is validated once, as epoch 0. The head then has the weights of its
        best epoch.

        Args:
            state: file of the training state that a stopped run resumes from; None writes none.
            quiet: without a progress bar.

        Raises:
            NotFinite: when a loss or a statistic is not finite.
        """
        start = {k: v.detach().clone() for k, v in self.head.state_dict().items()}
        if state is not None and state.exists():
            self._restore(state)
        else:
            self._validate(0, dict.fromkeys(epoch_statistics.summary_names()))
        reached, total = self.reached, self.train.epochs if self.weights else 0
        done = reached.epoch
        with tqdm(total=total, initial=done, desc="train head", unit="epoch", disable=quiet) as bar:
            for epoch in range(done, total):
                if self.stalled:
                    break
                row = self._epoch(epoch)
                value = self._validate(epoch + 1, row)
                if value > reached.best_value:
                    reached.best_value, reached.best_epoch = value, epoch + 1
                    self.best = self._averaged()
                if state is not None:
                    self._save(state)
                bar.update()
                bar.set_postfix({"loss": row["loss"]})
        first = self._value(reached.history[0])
        if first >= reached.best_value:
            reached.best_value, reached.best_epoch, self.best = first, 0, start
        self.head.load_state_dict(self.best)
        return reached

    @property
    def stalled(self) -> bool:
        """Whether the holdout has not improved for `train.patience` epochs; never with 0."""
        return 0 < self.train.patience <= self.reached.epoch - self.reached.best_epoch

    def _epoch(self, epoch: int) -> Row:
        """Train for an epoch, the first is 0; returns its statistics."""
        seed = epoch_seed(self.train.seed, Stream.NOISE, epoch)
        self.head.noise.seed(seed, self.features.device)
        self.head.train()
        first = epoch * self.sampler.steps
        sums = torch.zeros(len(epoch_statistics.STATISTICS), device=self.features.device)
        with devices.matmul_precision(self.train.precision):
            for step, batch in enumerate(self.sampler.epoch(epoch), first):
                sums += self._step(step, batch)
        values = dict(zip(epoch_statistics.STATISTICS, sums.tolist(), strict=True))
        if bad := [name for name, value in values.items() if not math.isfinite(value)]:
            raise NotFinite(
                f"not finite in epoch {epoch + 1}: {', '.join(bad)}; lower train.lr, ua.csu_weight "
                "or ua.dr_weight, or raise train.temperature"
            )
        queries = self.sampler.queries
        known = queries.relevant is not None and self.ua.csu_weight > 0
        row: Row = epoch_statistics.summary(values, len(queries), self.sampler.steps, known)
        return row | {
            "temperature": self.head.temperature.item(),
            "lr": self.optimizer.param_groups[0]["lr"],
        }

    def _step(self, step: int, batch: Batch) -> Tensor:
        """Update the weights once, without waiting for the device.

        Returns what `epoch_statistics.STATISTICS` names, (11,).
        """
        steps = self.train.epochs * self.sampler.steps
        constant = self.train.schedule == "constant"
        # A constant rate must not depend on a bound that is never reached: an epoch of warm-up.
        warm_up = 1 / self.train.epochs if constant else WARM_UP
        for group in self.optimizer.param_groups:
            group["lr"] = self.train.lr * factor(step, steps, warm_up, constant)
        source = self.head.forward_source(
            self.features.image_rows(batch.reference), self.features.text_rows(batch.text)
        )
        target = self.head.forward_target(self.features.image_rows(batch.target))
        terms = self.head.loss(
            source, target, batch.target, self.ua, self.train.two_way, step / steps
        )
        self.optimizer.zero_grad()
        torch.autograd.backward(terms.total)
        norm = get_total_norm([w.grad for w in self.weights if w.grad is not None])
        self.optimizer.step()
        if self.average:
            decay = min(self.train.ema, (1 + step) / (10 + step))  # Shorter at the beginning.
            averages, current = list(self.average.values()), list(self.current.values())
            torch._foreach_lerp_(averages, current, 1 - decay)
        truth = None
        if self.ua.csu_weight > 0:
            truth = self.sampler.queries.true_pairs(batch.query, batch.target)
        sigmas = source.uncertainty.detach(), target.uncertainty.detach()
        return epoch_statistics.statistics(terms, *sigmas, norm, truth)

    def _validate(self, done: int, row: Row) -> float:
        """Validate after `done` epochs; returns the metric that chooses the epoch."""
        live = {name: value.clone() for name, value in self.current.items()}
        self.head.load_state_dict(self.average, strict=False)
        metrics = {f"holdout_{name}": value for name, value in self.validate(self.head).items()}
        self.head.load_state_dict(live, strict=False)
        self.reached.epoch = done
        self.reached.history.append({"epoch": done, **row, **metrics})
        return self._value(metrics)

    def _value(self, row: Mapping[str, float | None]) -> float:
        """The metric that chooses the epoch."""
        value = row[f"holdout_{self.train.select}"]
        assert value is not None
        return value

    def _averaged(self) -> dict[str, Tensor]:
        """A copy of the weights that the holdout sees."""
        weights = self.head.state_dict() | self.average
        return {name: value.detach().clone() for name, value in weights.items()}

    def _save(self, path: Path) -> None:
        tensors = {f"head.{k}": v for k, v in self.head.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        state = optimizer_state.to_tensors(self.optimizer)
        tensors |= {f"optimizer.{k}": v for k, v in state.items()}
        checkpoint.save_state(path, tensors, vars(self.reached))

    def _restore(self, path: Path) -> None:
        tensors, meta = checkpoint.load_state(path)
        try:
            self.reached = TypeAdapter(TrainingState).validate_python(meta)
        except ValidationError as error:
            key, message = first_error(error)
            raise UserError(f"{path}: {key}: {message}; remove it") from error
        reached = self.reached
        if not 0 < reached.best_epoch <= reached.epoch == len(reached.history) - 1:
            raise UserError(f"{path}: its epochs do not fit each other; remove it")
        weights = self.head.state_dict()
        expected = {f"{side}.{k}": v for side in ("head", "best") for k, v in weights.items()}
        expected |= {f"average.{k}": v for k, v in self.average.items()}
        moments = checkpoint.under(tensors, "optimizer.")
        own = optimizer_state.expected(self.optimizer, moments)
        expected |= {f"optimizer.{k}": v for k, v in own.items()}
        checkpoint.check_shapes(path, expected, tensors, "remove it")
        self.head.load_state_dict(checkpoint.under(tensors, "head."))
        self.best = checkpoint.under(tensors, "best.")
        for name, value in self.average.items():
            value.copy_(tensors[f"average.{name}"])
        optimizer_state.from_tensors(self.optimizer, moments)
