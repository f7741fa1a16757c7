"""Training one head or a stack of them on cached features, all of them on the device.

Every epoch reseeds from the run's seed, so a run that was stopped goes on with the same digits.
Batches and captions are drawn apart from the head's own noise: for one seed every method sees the
same batches. In a stack every run has its own batches, noise and weights, and trains as it would
alone, to rounding.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from rau import devices
from rau.errors import UserError
from rau.losses.rau_loss import Weighing
from rau.lr_schedule import factor
from rau.models import checkpoint
from rau.models.head import ComposedHead, HeadConfig
from rau.models.objective import loss_terms
from rau.params import TrainParams, UaParams
from rau.retrieval.feature_set import FeatureSet
from rau.training import epoch_statistics
from rau.training.sampler import Schedule, TrainQueries, stream
from rau.training.stacking import STACKABLE, HeadStack

Metrics = dict[str, float]
Row = dict[str, float | int | None]


class NotFinite(UserError):
    """A loss or a statistic of an epoch is not finite."""


@dataclass(frozen=True)
class Run:
    """One head to train.

    Attributes:
        config: of the head.
        ua: canonical.
        seed: of its weights, batches and noise.
        queries: to train on.
        validate: the holdout's metrics of a head.
    """

    config: HeadConfig
    ua: UaParams
    seed: int
    queries: TrainQueries
    validate: Callable[[ComposedHead], Metrics]


@dataclass
class Progress:
    """What a run has reached: enough to go on from.

    `failure` says why it cannot go on.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_value: float = -math.inf
    history: list[Row] = field(default_factory=list)
    failure: str | None = None


class Trainer:
    """Runs of one architecture: their heads, optimizer, and best weights so far."""

    def __init__(self, runs: Sequence[Run], train: TrainParams, features: FeatureSet) -> None:
        """Args: runs of the same terms of the loss; what they share, its seed aside.

        Raises:
            ValueError: when the runs cannot be one stack.
        """
        name, device = runs[0].config.name, features.device
        if len(runs) > 1 and name not in STACKABLE:
            raise ValueError(f"{name} sees a batch as a whole and cannot be stacked")
        self.runs, self.train, self.features = runs, train, features
        seeds = [run.seed for run in runs]
        self.schedule = Schedule([run.queries for run in runs], seeds, train)
        self.stack = HeadStack([run.config for run in runs], seeds, device)
        self.progress = [Progress() for _ in runs]
        self.best: list[dict[str, Tensor]] = [{} for _ in runs]
        self.weighing = Weighing.of(runs[0].ua)
        if len(runs) > 1:
            self.weighing = Weighing.of_stack([run.ua for run in runs], device)
        if self.stack.weights:
            self._prepare_steps(seeds)

    def _prepare_steps(self, seeds: Sequence[int]) -> None:
        train, device = self.train, self.features.device
        count = train.epochs * self.schedule.steps
        numbers = range(count)
        self.rates = torch.tensor([train.lr * factor(step, count) for step in numbers]).to(device)
        self.shares = torch.tensor([step / count for step in numbers]).to(device)
        self.rate = torch.tensor(train.lr, device=device)
        self.optimizer = torch.optim.AdamW(
            self.stack.parameter_groups(train.weight_decay),
            lr=self.rate,
            fused=True,
        )
        self.noise = self.stack.head.noise
        self.noise.bind(seeds, self.schedule.capacity, device)

    def run(self, state: Path | None, quiet: bool = False) -> list[Progress]:
        """Train to the last epoch, from `state` where an earlier run was stopped.

        Heads that have nothing to learn are measured once, as epoch 0. `heads` then hold the
        weights of their best epochs.

        Args:
            state: where to keep what a stopped run goes on from; None keeps nothing.
            quiet: without a progress bar.
        """
        if not self.stack.weights:
            for run, head, progress in zip(self.runs, self.heads, self.progress, strict=True):
                holdout = self._holdout(run, head)
                row: Row = {
                    "epoch": 0,
                    **dict.fromkeys(epoch_statistics.summary_names()),
                    **holdout,
                }
                progress.best_value, progress.history = holdout[self._selected], [row]
            return self.progress
        if state is not None and state.exists():
            self._restore(state)
        done = max(progress.epoch for progress in self.progress)
        total = self.train.epochs
        with tqdm(total=total, initial=done, desc="train head", unit="epoch", disable=quiet) as bar:
            while done < total and any(p.failure is None for p in self.progress):
                self._epoch(done)
                done += 1
                if self.progress[0].failure is not None:
                    continue
                if state is not None:
                    self._save(state)
                bar.update()
                bar.set_postfix({"loss": self.progress[0].history[-1]["loss"]})
        for head, best in zip(self.heads, self.best, strict=True):
            if best:
                head.load_state_dict(best)
        return self.progress

    @property
    def heads(self) -> list[ComposedHead]:
        """Each run's head."""
        return self.stack.heads

    @property
    def _selected(self) -> str:
        return f"holdout_{self.train.select}"

    @staticmethod
    def _holdout(run: Run, head: ComposedHead) -> Metrics:
        return {f"holdout_{name}": value for name, value in run.validate(head).items()}

    def _epoch(self, epoch: int) -> None:
        """One epoch of all runs, and what it was like."""
        self.noise.restart(lambda seed: stream(seed, epoch))
        self.stack.head.train()
        sums = torch.zeros(
            len(self.runs), len(epoch_statistics.STATISTICS), device=self.features.device
        )
        with devices.matmul_precision(self.train.precision):
            for number, batch in enumerate(self.schedule.epoch(epoch), epoch * self.schedule.steps):
                self.rate.copy_(self.rates[number])
                sums += self._step(self.shares[number], *batch)
        rate = self.rate.item()
        for place, values in enumerate(sums.tolist()):
            if self.progress[place].failure is None:
                named = dict(zip(epoch_statistics.STATISTICS, values, strict=True))
                self._keep(place, epoch, named, rate)

    def _step(
        self,
        share: Tensor,
        query: Tensor,
        reference: Tensor,
        target: Tensor,
        text: Tensor,
        valid: Tensor | None,
    ) -> Tensor:
        """One update from the rows of a `Batch`, without waiting for the device.

        Returns what `STATISTICS` names, (R, 11).
        """
        head, features = self.stack.head, self.features
        source = head.forward_source(features.image_rows(reference), features.text_rows(text))
        goal = head.forward_target(features.image_rows(target))
        two_way = self.train.two_way
        terms = loss_terms(head, source, goal, target, self.weighing, two_way, share, valid)
        norms = self.stack.backward(terms.total.sum())
        self.optimizer.step()
        truth = None
        if self.weighing.csu:
            truth = self.schedule.queries.true_pairs(query, target)
        sigmas = source.uncertainty.detach(), goal.uncertainty.detach()
        norms = norms.view(terms.total.shape)
        found = epoch_statistics.statistics(terms, *sigmas, norms, truth, valid)
        return found.view(len(self.runs), -1)

    def _keep(self, place: int, epoch: int, values: epoch_statistics.Sums, rate: float) -> None:
        """Note an epoch of one run, and its weights where they are the best so far."""
        run, head, progress = self.runs[place], self.heads[place], self.progress[place]
        if bad := epoch_statistics.not_finite(values):
            progress.failure = (
                f"not finite in epoch {epoch + 1}: {', '.join(bad)}; lower train.lr, ua.csu_weight "
                "or ua.dr_weight, or raise train.temperature"
            )
            return
        known = run.queries.relevant is not None and run.ua.csu_weight > 0
        row = epoch_statistics.summary(values, len(run.queries), self.schedule.steps, known)
        row |= {"temperature": head.temperature.item(), "lr": rate}
        holdout = self._holdout(run, head)
        progress.history.append({"epoch": epoch + 1, **row, **holdout})
        progress.epoch = epoch + 1
        if holdout[self._selected] > progress.best_value:
            progress.best_value, progress.best_epoch = holdout[self._selected], progress.epoch
            self.best[place] = {k: v.detach().clone() for k, v in head.state_dict().items()}

    def _save(self, path: Path) -> None:
        tensors: dict[str, Tensor] = {}
        for place, head in enumerate(self.heads):
            tensors |= {f"head.{place}.{k}": v for k, v in head.state_dict().items()}
            tensors |= {f"best.{place}.{k}": v for k, v in self.best[place].items()}
        for number, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{k}": v for k, v in values.items()}
        checkpoint.save_state(path, tensors, {"runs": [vars(one) for one in self.progress]})

    def _restore(self, path: Path) -> None:
        tensors, meta = checkpoint.load_state(path)
        self.progress = [Progress(**one) for one in meta["runs"]]
        for place, head in enumerate(self.heads):
            head.load_state_dict(checkpoint.under(tensors, f"head.{place}."))
            self.best[place] = checkpoint.under(tensors, f"best.{place}.")
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in checkpoint.under(tensors, "optimizer.").items():
            number, key = name.split(".")
            state.setdefault(int(number), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate  # Loading put a copy in its place.
