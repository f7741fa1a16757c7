"""What `fit` does to a head: training mode, learning rate, weight decay, the epoch that is kept."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from rau.errors import UserError
from rau.evaluation.head_record import HeadRecord
from rau.losses.criterion import LossContext, Terms
from rau.losses.mur import MurLoss
from rau.methods import METHODS
from rau.models.head import ComposedHead
from rau.nn.gaussian import PathOutput
from rau.params import HeadParams, Params, TrainParams, UaParams
from rau.training import model_selection
from rau.training.fit import Fitted, fit, needs_training, prepare, take_over, untrained
from rau.training.sampler import Batch
from rau.training.trainer import Trainer
from rau.training.triplets import TooFew
from tests.training.test_trainer import stopped_after, synthetic

PLAIN = UaParams(isu=False, csu_weight=0.0, dr_weight=0.0)
SAMPLED = UaParams(isu=True, csu_weight=0.0, dr_weight=0.0)


def fitted(
    ua: UaParams = PLAIN,
    head: dict[str, Any] | None = None,
    start: ComposedHead | None = None,
    must_start: bool = True,
    state: Path | None = None,
    **train: Any,
) -> Fitted:
    """A small head after a few steps on made-up features."""
    features, queries = synthetic()
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 16, "holdout": 0.2, "device": "cpu"}
    chosen = Params(
        ua=ua,
        head=HeadParams(**{"dim": 16, "hidden": 16, "dropout": 0.0} | (head or {})),
        train=TrainParams(**settings | {"lr": 1e-2} | train),
    )
    prepared = prepare(chosen.train, features, queries, [model_selection.TRAINED_FOR])
    return fit(chosen, features, prepared, state, True, start, must_start)


@contextmanager
def steps() -> Iterator[list[list[dict[str, Any]]]]:
    """The parameter groups of each step that an optimizer takes within the block."""
    seen: list[list[dict[str, Any]]] = []

    def note(optimizer: Optimizer, *_: Any) -> None:
        seen.append([{**group, "lr": float(group["lr"])} for group in optimizer.param_groups])

    handle = register_optimizer_step_pre_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


COSINE = {"epochs": 10, "lr": 1e-2, "schedule": "cosine", "ema": 0.0}


def rates(**train: Any) -> list[float]:
    """The learning rate of each step."""
    with steps() as seen:
        fitted(**train)
    each = [{group["lr"] for group in groups} for groups in seen]
    assert all(len(one) == 1 for one in each)
    return [rate for one in each for rate in one]


def test_dropout_is_active_in_training() -> None:
    losses = [
        fitted(head={"dropout": dropout}).training.history[1]["loss"] for dropout in (0.0, 0.5)
    ]
    assert losses[0] != losses[1]


def test_isu_samples_in_training_and_so_trains_the_variance() -> None:
    # Nothing but a sample reads the variance here: without one it stays where it starts.
    for row in fitted(SAMPLED).training.history[2:]:
        assert row["sigma_source"] != pytest.approx(SAMPLED.sigma_init, rel=1e-4)
        assert row["sigma_target"] != pytest.approx(SAMPLED.sigma_init, rel=1e-4)
    for row in fitted(PLAIN).training.history[1:]:
        assert row["sigma_source"] == pytest.approx(UaParams().sigma_init, rel=1e-4)


def test_every_epoch_is_trained_in_training_mode_whatever_the_holdout_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    modes: list[bool] = []
    forward, score = ComposedHead.forward_source, model_selection.score

    def noting(head: ComposedHead, reference: Tensor, text: Tensor) -> Any:
        if torch.is_grad_enabled():
            modes.append(head.training)
        return forward(head, reference, text)

    def leaving(tasks: Any, method: Any, features: Any) -> dict[str, float]:
        found = score(tasks, method, features)
        if isinstance(method, ComposedHead):
            method.eval()
        return found

    monkeypatch.setattr(ComposedHead, "forward_source", noting)
    monkeypatch.setattr(model_selection, "score", leaving)
    fitted(epochs=3)
    assert len(modes) >= 9
    assert all(modes)


def test_learning_rate_warms_up_linearly_over_the_first_tenth() -> None:
    found = rates(**COSINE)
    warm = round(len(found) / 10)
    assert warm >= 3
    assert found[:warm] == pytest.approx([1e-2 * (step + 1) / warm for step in range(warm)])
    assert max(found) == pytest.approx(1e-2)


def test_learning_rate_falls_after_the_warm_up_and_ends_at_zero() -> None:
    found = rates(**COSINE)
    falling = found[round(len(found) / 10) :]
    assert all(after < before for before, after in pairwise(falling))
    assert falling[len(falling) // 2] == pytest.approx(0.5e-2, rel=0.1)
    assert falling[-1] < 1e-2 / 1000
    # Half a cosine: the last step of k is one k-th of the way from zero.
    assert falling[-1] == pytest.approx(1e-2 * (1 - math.cos(math.pi / len(falling))) / 2)


def test_a_constant_rate_warms_up_for_an_epoch_whatever_the_bound() -> None:
    found, longer = (rates(epochs=epochs, schedule="constant") for epochs in (4, 8))
    epoch = len(found) // 4
    warm = [1e-2 * (step + 1) / epoch for step in range(epoch)]
    assert found == pytest.approx(warm + [1e-2] * 3 * epoch)
    assert longer == pytest.approx(found + [1e-2] * 4 * epoch)


@pytest.mark.parametrize("ema", [0.0, 0.3, 0.8])
def test_the_holdout_sees_a_moving_average_of_the_weights(
    monkeypatch: pytest.MonkeyPatch, ema: float
) -> None:
    seen = scripted(monkeypatch, [0.0, 1.0, 3.0, 2.0])
    after: list[Tensor] = []
    step = Trainer._step

    def noting(trainer: Trainer, number: int, batch: Batch) -> Tensor:
        if not after:
            after.append(trainer.weights[0].detach().clone())
        found = step(trainer, number, batch)
        after.append(trainer.weights[0].detach().clone())
        return found

    monkeypatch.setattr(Trainer, "_step", noting)
    head = fitted(epochs=3, ema=ema).head
    mean, epochs = after[0], []
    for number, weight in enumerate(after[1:]):
        decay = min(ema, (1 + number) / (10 + number))
        mean = decay * mean + (1 - decay) * weight
        epochs.append(mean)
    epochs = epochs[len(epochs) // 3 - 1 :: len(epochs) // 3]
    (name,) = (n for n, w in head.named_parameters() if w is next(head.parameters()))
    for validated, expected in zip(seen, [after[0], *epochs], strict=True):
        torch.testing.assert_close(validated[name], expected)
    assert torch.equal(next(head.parameters()), seen[2][name])


def test_history_has_the_rate_of_each_epochs_last_step() -> None:
    with steps() as seen:
        first, *rows = fitted(epochs=4).training.history
    assert first["lr"] is None
    each = len(seen) // 4
    assert [row["lr"] for row in rows] == pytest.approx(
        [seen[each * (epoch + 1) - 1][0]["lr"] for epoch in range(4)]
    )


def test_matrices_decay_and_biases_norms_and_temperature_do_not() -> None:
    with steps() as seen:
        head = fitted(SAMPLED, weight_decay=0.25, learn_temperature=True).head
    found = [(w.ndim > 1, group["weight_decay"]) for group in seen[0] for w in group["params"]]
    assert set(found) == {(True, 0.25), (False, 0.0)}
    assert len(found) == len(list(head.parameters()))


def scripted(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> list[dict[str, Tensor]]:
    """Give the holdout a value before training and after each epoch; returns the weights that it
    was asked about."""
    left = iter(values)
    weights: list[dict[str, Tensor]] = []
    real = model_selection.score

    def score(tasks: Any, method: Any, features: Any) -> dict[str, float]:
        if not isinstance(method, ComposedHead):
            return real(tasks, method, features)
        weights.append({name: value.clone() for name, value in method.state_dict().items()})
        return {"mean_of_r10_r50": next(left)}

    monkeypatch.setattr(model_selection, "score", score)
    return weights


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ([0.0, 5.0, 7.0, 7.0, 3.0], 2),
        ([6.9, 7.0, 7.0, 7.0, 7.0], 1),
        ([0.0, 1.0, 2.0, 3.0, 4.0], 4),
        ([8.0, 5.0, 7.0, 7.0, 3.0], 0),
        ([7.0, 5.0, 7.0, 6.0, 3.0], 0),
    ],
)
def test_the_best_epoch_is_kept_the_start_among_them_and_the_first_of_equal_ones(
    monkeypatch: pytest.MonkeyPatch, values: list[float], best: int
) -> None:
    weights = scripted(monkeypatch, values)
    found = fitted(epochs=4)
    assert found.extra["best_epoch"] == found.training.best_epoch == best
    assert found.extra["best_value"] == found.training.best_value == values[best]
    kept = found.head.state_dict()
    same = [
        all(torch.equal(kept[name], value) for name, value in one.items()) for one in weights[:5]
    ]
    assert same == [epoch == best for epoch in range(5)]


def test_a_stopped_training_still_knows_what_it_started_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    weights = scripted(monkeypatch, [9.0, 5.0, 7.0, 6.0, 3.0])
    with stopped_after(monkeypatch, epochs=2):
        fitted(epochs=4, state=tmp_path / "state")
    found = fitted(epochs=4, state=tmp_path / "state")
    assert (found.training.epoch, found.training.best_epoch) == (4, 0)
    for name, value in found.head.state_dict().items():
        assert torch.equal(value, weights[0][name])


@pytest.mark.parametrize("start", [0.0, 8.5])
@pytest.mark.parametrize(
    ("patience", "epochs", "best"), [(1, 3, 2), (3, 7, 4), (4, 8, 8), (0, 8, 8), (7, 8, 8)]
)
def test_training_ends_when_the_holdout_has_not_improved_for_patience_epochs(
    monkeypatch: pytest.MonkeyPatch, patience: int, epochs: int, best: int, start: float
) -> None:
    scripted(monkeypatch, [start, 5.0, 7.0, 7.0, 8.0, 3.0, 8.0, 7.0, 9.0])
    training = fitted(epochs=8, patience=patience).training
    # Training may first fall below where it started: that alone does not end it.
    assert (training.epoch, len(training.history)) == (epochs, epochs + 1)
    assert training.best_epoch == (best if best == 8 or start == 0 else 0)


def test_mur_is_told_how_far_the_training_is(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    real = MurLoss.forward

    def spy(loss: MurLoss, source: PathOutput, target: PathOutput, context: LossContext) -> Terms:
        seen.append(context.progress)
        return real(loss, source, target, context)

    monkeypatch.setattr(MurLoss, "forward", spy)
    fitted(head={"name": "mur"}, epochs=3)
    assert seen == pytest.approx([step / len(seen) for step in range(len(seen))])


def test_a_head_starts_from_the_one_that_was_fine_tuned() -> None:
    start = fitted(SAMPLED).head
    state = start.state_dict()
    head = fitted(PLAIN, temperature=0.5).head
    take_over(head, start)
    for name, value in head.state_dict().items():
        assert value.equal(state[name]) == (name != "log_temperature")


@pytest.mark.parametrize("other", [{"name": "combiner"}, {"name": "deterministic", "hidden": 8}])
def test_a_head_of_another_architecture_starts_fresh_only_where_it_may(
    other: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    start = fitted(head=other).head
    with pytest.raises(UserError, match=r"train\.start=finetuned: .*same head\.\* and ua\.\*"):
        fitted(start=start)
    found, fresh = fitted(start=start, must_start=False).head, fitted().head
    assert "which starts fresh" in capsys.readouterr().out
    assert all(a.equal(b) for a, b in zip(found.parameters(), fresh.parameters(), strict=True))


@pytest.mark.parametrize("name", METHODS)
def test_what_needs_no_training_is_as_if_it_were_trained(name: str) -> None:
    features, queries = synthetic()
    params = Params(head=HeadParams(name=name), train=TrainParams(device="cpu"))
    assert needs_training(params) == (name not in ("image_only", "text_only", "sum", "raw_sum"))
    if needs_training(params):
        return
    with pytest.raises(TooFew, match=r"0 usable train queries .*head\.name=raw_sum"):
        prepare(params.train, features, [])
    head, extra = untrained(params, features, queries)
    prepared = prepare(params.train, features, queries, [model_selection.TRAINED_FOR])
    own = fit(params, features, prepared, None, quiet=True).head
    rows = torch.arange(4)
    pair = features.image_rows(rows), features.text_rows(rows)
    assert torch.equal(head.encode_query(*pair)[0], own.encode_query(*pair)[0])
    assert not head.training
    assert HeadRecord.model_validate(extra).queries["train"] == 0


def test_separate_spaces_have_projections_to_train() -> None:
    features, queries = synthetic(d_text=12)
    with pytest.raises(UserError, match=r"head\.name=sum has projections to train"):
        untrained(Params(head=HeadParams(name="sum")), features, queries)
