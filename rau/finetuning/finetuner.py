"""The loop that trains towers and composer by one loss.

A step encodes every distinct picture and text of a batch once. All that is random is drawn from
streams of `train.seed` by epoch and step, so that a stopped run resumes with the same weights.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Never

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm

from rau.devices import peak_memory
from rau.errors import UserError
from rau.finetuning.processes import Processes
from rau.finetuning.sides import Embed, Encoded, LookedUp
from rau.finetuning.towers import Towers
from rau.lr_schedule import factor
from rau.models import checkpoint
from rau.models.head import ComposedHead
from rau.params import FinetuneParams, UaParams, first_error
from rau.progress import tqdm
from rau.training import epoch_statistics, optimizer_state
from rau.training.sampler import Batch, BatchSampler
from rau.training.seeds import Stream, epoch_seed
from rau.training.trainer import NotFinite

SAVE_SECONDS = 300
SHOW_SECONDS = 2  # A look at the loss waits for the device.
STATE, BEST = "state.safetensors", "best.safetensors"
Row = dict[str, float | int | None]


@dataclass
class Progress:
    """How far a training is, except for its tensors.

    Attributes:
        epoch, step: whole epochs, and steps of the one that is under way.
        sums: `epoch_statistics.STATISTICS` of that one.
        history: a row per epoch; the first, epoch 0, before any step.
        scaler: of half precision's gradients.
    """

    epoch: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float = -math.inf
    history: list[Row] = field(default_factory=list)
    scaler: dict[str, float | int] = field(default_factory=dict)


class Distinct(NamedTuple):
    """The distinct pictures and texts of a batch of B queries.

    Attributes:
        images, texts: rows of pictures and texts, each once.
        reference, target, text: their places among those, (B,) each.
    """

    images: Tensor
    texts: Tensor
    reference: Tensor
    target: Tensor
    text: Tensor

    @classmethod
    def of(cls, batch: Batch) -> "Distinct":
        """Find them."""
        both = torch.cat([batch.reference, batch.target])
        images, at = torch.unique(both, return_inverse=True)
        texts, text = torch.unique(batch.text, return_inverse=True)
        count = len(batch.text)
        return cls(images, texts, at[:count], at[count:], text)


class Finetuner:
    """Trains towers and composer with AdamW and keeps the weights of the best epoch."""

    def __init__(
        self,
        towers: Towers,
        composer: ComposedHead,
        images: Encoded | LookedUp,
        texts: Encoded | LookedUp,
        sampler: BatchSampler,
        finetune: FinetuneParams,
        ua: UaParams,
        processes: Processes,
        validate: Callable[[], dict[str, float]],
        folder: Path,
        dtype: torch.dtype,
        tower_lr: float,
    ) -> None:
        """Set up the optimizer.

        Args:
            towers, composer: on the device.
            images, texts: features by row of the sampler's triplets.
            ua: canonical, so that terms which the composer's method does not have are off.
            validate: metrics after an epoch; `holdout_<finetune.select>` chooses it.
            folder: of the state that a stopped run resumes from; its caller removes it.
            dtype: of matrix products in the towers.
            tower_lr: peak rate of the towers.
        """
        self.towers, self.composer, self.images, self.texts = towers, composer, images, texts
        self.sampler, self.finetune, self.ua, self.processes = sampler, finetune, ua, processes
        self.validate, self.folder = validate, folder
        self.progress = Progress()
        own = dict(composer.named_parameters(prefix="composer"))
        self.weights: dict[str, nn.Parameter] = towers.weights | own
        groups = [
            {"params": chosen, "lr": lr, "peak": lr, "weight_decay": decay}
            for weights, lr in ((towers.weights, tower_lr), (own, finetune.composer_lr))
            for chosen, decay in (
                ([w for w in weights.values() if w.ndim > 1], finetune.weight_decay),
                ([w for w in weights.values() if w.ndim <= 1], 0.0),
            )
            if chosen
        ]
        self.optimizer = torch.optim.AdamW(groups, eps=finetune.eps, fused=True)
        self.scaler = torch.amp.GradScaler(processes.device.type, enabled=dtype == torch.float16)
        self.ema = {n: w.detach().clone() for n, w in self.weights.items()} if finetune.ema else {}
        self._saved = time.monotonic()

    def run(self, quiet: bool = False) -> Progress:
        """Train to the last epoch, or until patience ends; resumes from the folder's state.

        Model and composer then have the weights of the best epoch. Epoch 0 is what they were.

        Args:
            quiet: show no progress; of several processes only the first does.

        Raises:
            NotFinite: when the loss is not.
            UserError: when the disk is full.
        """
        if (self.folder / STATE).exists():
            self._restore()
        else:
            self._validate(dict.fromkeys(epoch_statistics.summary_names()[:-2]))
            self._save()
        total = self.finetune.epochs * self.sampler.steps
        done = self.progress.epoch * self.sampler.steps + self.progress.step
        hidden = quiet or not self.processes.first
        with tqdm(total=total, initial=done, desc="fine-tune", unit="step", disable=hidden) as bar:
            while self.progress.epoch < self.finetune.epochs and not self._stalled():
                self._epoch(bar)
        self.processes.wait()  # For the file of the first one.
        tensors, kept = checkpoint.load_state(self.folder / BEST)
        self.processes.wait()  # The caller of the first one removes the folder.
        self._load(tensors)
        # Of a run that was killed between the two files, the state's may be those before.
        self.progress.best_epoch, self.progress.best_value = kept["best_epoch"], kept["best_value"]
        return self.progress

    def _stalled(self) -> bool:
        """Whether the holdout has not improved for `finetune.patience` epochs; never with 0."""
        return 0 < self.finetune.patience <= self.progress.epoch - self.progress.best_epoch

    def _epoch(self, bar: "tqdm[Never]") -> None:
        progress = self.progress
        self.towers.train()
        self.composer.train()
        batches = self.sampler.epoch(progress.epoch)[progress.step :]
        distinct = [Distinct.of(batch) for batch in batches]
        seed = epoch_seed(self.sampler.train.seed, Stream.PICTURES, progress.epoch)
        sums = torch.tensor(progress.sums or [0.0] * len(epoch_statistics.STATISTICS))
        sums = sums.to(self.processes.device)
        loss, rows, shown = sums.new_zeros(()), 0, time.monotonic()
        with (
            closing(self.images.steps([one.images for one in distinct], seed)) as images,
            closing(self.texts.steps([one.texts for one in distinct], seed)) as texts,
        ):
            for batch, own, image, text in zip(batches, distinct, images, texts, strict=True):
                found = self._step(batch, own, image, text)
                sums += found
                loss, rows = loss + found[0], rows + len(batch.text)
                progress.step += 1
                bar.update()
                if time.monotonic() - shown > SHOW_SECONDS:
                    self._show(bar, float(loss) / rows)
                    loss, rows, shown = sums.new_zeros(()), 0, time.monotonic()
                if time.monotonic() - self._saved > SAVE_SECONDS:
                    progress.sums = sums.tolist()
                    self._save()
        values = dict(zip(epoch_statistics.STATISTICS, sums.tolist(), strict=True))
        if bad := [name for name, value in values.items() if not math.isfinite(value)]:
            raise NotFinite(
                f"fine-tuning: {', '.join(bad)} not finite in epoch {progress.epoch + 1}; lower "
                "finetune.tower_lr or finetune.composer_lr, or set finetune.clip_norm"
            )
        known = self.sampler.queries.relevant is not None and self.ua.csu_weight > 0
        row: Row = epoch_statistics.summary(
            values, len(self.sampler.queries), self.sampler.steps, known
        )
        progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, []
        self._validate(row)
        self._save()
        self._show(bar, row["loss"])

    def _show(self, bar: "tqdm[Never]", loss: float | int | None) -> None:
        """Beside rate and time left: the loss of recent steps, the last holdout, peak memory."""
        found = self.progress.history[-1][f"holdout_{self.finetune.select}"]
        memory = f"{peak_memory(self.processes.device) / 2**30:.1f} GiB"
        bar.set_postfix(loss=f"{loss:.3f}", holdout=f"{found:.2f}", peak=memory)

    def _step(self, batch: Batch, own: Distinct, images: Embed, texts: Embed) -> Tensor:
        """Update the weights once; returns what `epoch_statistics.STATISTICS` names."""
        finetune, device = self.finetune, self.processes.device
        number = self.progress.epoch * self.sampler.steps + self.progress.step
        steps = finetune.epochs * self.sampler.steps
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor(
                number, steps, finetune.warm_up, finetune.schedule == "constant"
            )
        seed = epoch_seed(self.sampler.train.seed, Stream.NOISE, number)
        self.composer.noise.seed(seed, device)
        # 32 bits: a piece adds the number of its first row.
        image, text = images(seed % 2**32), texts(seed % 2**32)
        reference, target, caption = (
            side.features[place.to(device)]
            for side, place in (
                (image, own.reference),
                (image, own.target),
                (text, own.text),
            )
        )
        ids = batch.target if finetune.duplicates == "positive" else torch.arange(len(batch.target))
        source = self.composer.forward_source(reference, caption)
        found = self.composer.forward_target(target)
        terms = self.composer.loss(
            source, found, ids.to(device), self.ua, finetune.two_way, number / steps
        )
        self.optimizer.zero_grad()
        torch.autograd.backward(self.scaler.scale(terms.total))
        image.backward()
        text.backward()
        self.processes.sum_gradients(list(self.towers.weights.values()))
        self.processes.average_gradients(list(self.composer.parameters()))
        norm = self._update()
        truth = None
        if self.ua.csu_weight > 0:
            truth = self.sampler.queries.true_pairs(batch.query, batch.target)
            truth = None if truth is None else truth.to(device)
        sigmas = source.uncertainty.detach(), found.uncertainty.detach()
        return epoch_statistics.statistics(terms, *sigmas, norm, truth)

    def _update(self) -> Tensor:
        """Step the optimizer; returns the norm of the gradient before it was clipped."""
        self.scaler.unscale_(self.optimizer)
        weights = [w for w in self.weights.values() if w.grad is not None]
        if self.finetune.clip_norm is not None:
            norm = clip_grad_norm_(weights, self.finetune.clip_norm)
        else:
            norm = get_total_norm([w.grad for w in weights if w.grad is not None])
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scaler.is_enabled():
            # A step whose scaled gradient overflows is skipped, which is how the scale is found.
            norm = torch.where(norm.isfinite(), norm, 0.0)
        if self.ema:
            with torch.no_grad():
                torch._foreach_lerp_(
                    list(self.ema.values()), list(self.weights.values()), 1 - self.finetune.ema
                )
        return norm

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """With the averaged weights in place, where there are any."""
        if not self.ema:
            yield
            return
        own = {name: weight.detach().clone() for name, weight in self.weights.items()}
        for name, weight in self.weights.items():
            weight.data.copy_(self.ema[name])
        try:
            yield
        finally:
            for name, weight in self.weights.items():
                weight.data.copy_(own[name])

    def _validate(self, statistics: Row) -> None:
        """Validate after an epoch; keep the weights if they are the best so far."""
        progress = self.progress
        self.towers.eval()
        with self._averaged():
            metrics = self.validate()
            value = self.processes.of_the_first(metrics[f"holdout_{self.finetune.select}"])
            if value > progress.best_value:
                progress.best_value, progress.best_epoch = value, progress.epoch
                self._write(BEST, self._weights())
        own: Row = {
            "temperature": self.composer.temperature.item(),
            "lr": self.optimizer.param_groups[0]["lr"],
        }
        progress.history.append({"epoch": progress.epoch, **statistics, **own, **metrics})

    def _weights(self) -> dict[str, Tensor]:
        model = {f"model.{name}": value for name, value in self.towers.state()}
        return model | {f"composer.{k}": v for k, v in self.composer.state_dict().items()}

    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        for name, value in self.towers.state():
            value.data.copy_(tensors[f"model.{name}"])
        self.composer.load_state_dict(checkpoint.under(tensors, "composer."))

    def _save(self) -> None:
        self.progress.scaler = self.scaler.state_dict()
        tensors = self._weights() | {f"ema.{name}": value for name, value in self.ema.items()}
        state = optimizer_state.to_tensors(self.optimizer)
        self._write(STATE, tensors | {f"optimizer.{k}": v for k, v in state.items()})
        self._saved = time.monotonic()

    def _write(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        if self.processes.first:
            checkpoint.save_state(self.folder / name, tensors, vars(self.progress))

    def _restore(self) -> None:
        path = self.folder / STATE
        tensors, meta = checkpoint.load_state(path)
        moments = checkpoint.under(tensors, "optimizer.")
        own = optimizer_state.expected(self.optimizer, moments)
        named = self._weights() | {f"ema.{name}": value for name, value in self.ema.items()}
        named |= {f"optimizer.{name}": value for name, value in own.items()}
        checkpoint.check_shapes(path, named, tensors, "remove it")
        try:
            self.progress = TypeAdapter(Progress).validate_python(meta)
        except ValidationError as error:
            key, message = first_error(error)
            raise UserError(f"{path}: {key}: {message}; remove it") from error
        self._load(tensors)
        for name, value in self.ema.items():
            value.copy_(tensors[f"ema.{name}"])
        optimizer_state.from_tensors(self.optimizer, moments)
        if self.progress.scaler and self.scaler.is_enabled():
            self.scaler.load_state_dict(self.progress.scaler)
