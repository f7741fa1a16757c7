"""Fine-tuning: the same weights in pieces, resumed, and on several processes."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rau.encoders import clip
from rau.encoders.towers import side_of
from rau.errors import UserError
from rau.features import cache, extraction
from rau.features.item import Item
from rau.finetuning import finetuner, record, run
from rau.finetuning.finetuner import Distinct, Finetuner
from rau.methods import METHODS
from rau.params import UaParams
from rau.training.sampler import Batch
from tests.finetuning.synthetic import (
    one_of_two,
    one_that_saves_every_step,
    params,
    pictures,
    weights,
)
from tests.project import forked
from tests.server import free_port

CPU = torch.device("cpu")

Weights = dict[str, Tensor]


def assert_close(left: Weights, right: Weights) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        # AdamW's first steps have the size of the rate, whatever that of the gradient: where that
        # is nearly zero rounding decides the sign.
        far = ((value - right[name]).abs() > 2e-4).float().mean()
        assert far < 0.01, f"{name}: {far:.3f}"


def last(result: run.Finetuned) -> float:
    loss = result.progress.history[-1]["loss"]
    assert loss is not None
    return loss


def test_the_loss_falls(
    tuned: Callable[..., run.Finetuned],
) -> None:
    result = tuned(epochs=6, composer="sum", warm_up=0.0)
    history = result.progress.history
    assert [row["epoch"] for row in history] == list(range(7))
    assert history[0]["loss"] is None
    losses = [row["loss"] for row in history[1:]]
    assert losses[-1] < losses[0]  # type: ignore[operator]
    best = max(history, key=lambda row: row["holdout_mean_of_r10_r50"] or 0)
    assert result.progress.best_epoch == best["epoch"]


@pytest.mark.parametrize(("towers", "moved"), [("text", "text"), ("image", "image")])
def test_only_the_chosen_tower_changes(
    towers: str,
    moved: str,
    tuned: Callable[..., run.Finetuned],
    encoder: clip.Encoder,
    rising: None,
) -> None:
    before = encoder.model.state_dict()
    after = tuned(towers=towers, epochs=1).encoder.model.state_dict()
    changed = {side_of(name) for name in before if not before[name].equal(after[name])}
    assert changed == {moved}


@pytest.mark.parametrize(("towers", "kind"), [("text", "images"), ("image", "texts")])
def test_features_of_a_frozen_tower_are_encoded_once_for_all_runs(
    towers: str, kind: str, tuned: Callable[..., run.Finetuned], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    own = dict(extraction.ENCODE)

    def counting(name: str) -> Callable[..., Any]:
        def encode(encoder: clip.Encoder, items: Sequence[Item], *rest: Any) -> Any:
            encoded.extend([name] * len(items))
            return own[name](encoder, items, *rest)

        return encode

    for name in own:
        monkeypatch.setitem(extraction.ENCODE, name, counting(name))
    first = tuned(towers=towers, epochs=1)
    assert set(encoded) == {kind}
    encoded.clear()
    second = tuned(towers=towers, epochs=2)
    assert not encoded
    assert [row["loss"] for row in first.progress.history] != [
        row["loss"] for row in second.progress.history
    ]


def test_a_frozen_tower_that_sees_stretched_pictures_leaves_the_encoder_its_own_features(
    tuned: Callable[..., run.Finetuned], encoder: clip.Encoder, tmp_path: Path
) -> None:
    tuned(towers="text", preprocess="stretch", epochs=1)
    items = pictures(tmp_path / "images")
    for name in ("own", "stretch"):
        own = clip.with_preprocess(encoder, name)
        found = cache.cached(tmp_path / "parts", params().features, own, "images", items)
        wanted = own.encode_images(own.load_images([Path(item.content) for item in items]))
        torch.testing.assert_close(torch.from_numpy(found).float(), wanted, rtol=1e-3, atol=1e-4)


def test_a_run_killed_between_its_two_files_knows_the_epoch_of_its_weights(
    tuned: Callable[..., run.Finetuned], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([1.0, 2.0, 3.0])

    def measure(*_: Any) -> dict[str, float]:
        return {"holdout_mean_of_r10_r50": next(values)}

    def killed(self: Finetuner) -> None:
        if self.progress.epoch == 2:
            raise KeyboardInterrupt
        save(self)

    save = Finetuner._save
    monkeypatch.setattr(run.Measure, "__call__", measure)
    with monkeypatch.context() as patched:
        patched.setattr(Finetuner, "_save", killed)
        with pytest.raises(KeyboardInterrupt):
            tuned()
    # Its second epoch was the best; done again, on another device say, it is not.
    values = iter([1.5])
    progress = tuned().progress
    assert (progress.best_epoch, progress.best_value) == (2, 3.0)


@pytest.mark.parametrize("composer", ["sum", "head"])
def test_pieces_give_the_gradient_of_the_whole(
    composer: str, tuned: Callable[..., run.Finetuned], monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients: list[list[Tensor]] = []
    own = Finetuner._update

    def update(self: Finetuner) -> Tensor:
        found = [w.grad for w in self.weights.values() if w.grad is not None]
        gradients.append([grad.clone() for grad in found])
        return own(self)

    monkeypatch.setattr(Finetuner, "_update", update)
    tuned("whole", epochs=1, composer=composer)
    whole = gradients[0]
    gradients.clear()
    tuned("pieces", epochs=1, composer=composer, micro_batch=5)
    for left, right in zip(whole, gradients[0], strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-5)


def test_a_stopped_run_ends_with_the_same_weights(
    tuned: Callable[..., run.Finetuned], rising: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = weights(tuned("whole", ema=0.5))
    monkeypatch.setattr(finetuner, "SAVE_SECONDS", 0)
    own, steps = Finetuner._step, 0

    def step(*arguments: Any) -> Tensor:
        nonlocal steps
        steps += 1
        if steps in (2, 5):  # In the middle of the first epoch, and of the second.
            raise KeyboardInterrupt
        return own(*arguments)

    monkeypatch.setattr(Finetuner, "_step", step)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            tuned("stopped", ema=0.5)
    found = weights(tuned("stopped", ema=0.5))
    assert all(found[name].equal(value) for name, value in expected.items())


@pytest.mark.parametrize("composer", ["head", "sum"])
def test_two_processes_end_with_the_weights_of_one(
    composer: str,
    tuned: Callable[..., run.Finetuned],
    encoder_folder: Path,
    tmp_path: Path,
    rising: None,
) -> None:
    options = {"composer": composer, "epochs": 1, "warm_up": 0.0, "micro_batch": 5, "eps": 1e-3}
    port = free_port()
    both = [forked(one_of_two, rank, port, options, encoder_folder, tmp_path) for rank in (0, 1)]
    one = tuned("one", **options)
    for process in both:
        process.join(300)
    assert [process.exitcode for process in both] == [0, 0]
    found = load_file(tmp_path / "weights.safetensors")
    # A clipped step has the same size, and so has nearly AdamW's, whatever the gradient's.
    norm = one.progress.history[-1]["gradient_norm"]
    assert float(found.pop("gradient_norm")) == pytest.approx(norm, rel=1e-3)
    assert_close(found, weights(one))


def test_a_run_that_is_killed_at_any_moment_ends_with_the_same_weights(
    encoder_folder: Path, tmp_path: Path
) -> None:
    options = {"epochs": 3, "ema": 0.5}
    rng = Random(0)

    def start(folder: str) -> BaseProcess:
        return forked(one_that_saves_every_step, options, encoder_folder, tmp_path / folder)

    def saved() -> list[int]:
        return [path.stat().st_mtime_ns for path in (tmp_path / "killed").rglob("state.*")]

    start("whole").join(300)
    killed = 0
    for _ in range(4):
        before, process = saved(), start("killed")
        while process.is_alive() and saved() == before:
            time.sleep(0.005)
        process.join(rng.uniform(0, 0.1))
        killed += process.is_alive()
        process.kill()
        process.join()
    last = start("killed")
    last.join(300)
    assert last.exitcode == 0
    assert killed > 0, "all had ended before they could be killed"
    found, expected = (
        load_file(tmp_path / folder / "weights.safetensors") for folder in ("killed", "whole")
    )
    assert all(found[name].equal(value) for name, value in expected.items())


def test_patience_ends_a_run(
    tuned: Callable[..., run.Finetuned], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([10.0, 12.0, 11.0, 12.0, 13.0])
    monkeypatch.setattr(
        run.Measure, "__call__", lambda self, head: {"holdout_mean_of_r10_r50": next(values)}
    )
    progress = tuned(epochs=9, patience=2).progress
    assert (progress.epoch, progress.best_epoch) == (3, 1)


def test_a_loss_that_is_not_finite_is_one_line(tuned: Callable[..., run.Finetuned]) -> None:
    with pytest.raises(UserError, match=r"not finite in epoch 1; lower finetune\.tower_lr"):
        tuned(tower_lr=1e30, composer="sum")


def test_rows_of_one_target_count_as_negatives_where_asked(
    tuned: Callable[..., run.Finetuned],
) -> None:
    # The same batches and samples; only the loss's positives differ. Of equal targets that are not
    # sampled the mean over positives is the row's own: the two losses are one.
    def losses(composer: str) -> list[float]:
        kinds = "positive", "count"
        options: dict[str, Any] = {"epochs": 1, "composer": composer, "tower_lr": 1e-9}
        return [last(tuned(f"{composer} {k}", duplicates=k, **options)) for k in kinds]

    shared, counted = losses("head")
    assert counted > shared + 1e-3
    assert losses("sum")[0] == pytest.approx(losses("sum")[1])


def test_half_precision_skips_steps_that_overflow(
    tuned: Callable[..., run.Finetuned], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", partial(own, init_scale=1e38))
    progress = tuned(epochs=1, precision="float16").progress
    assert progress.scaler["scale"] < 1e38
    assert progress.history[-1]["loss"] is not None


def test_what_occurs_twice_is_encoded_once() -> None:
    rows = [torch.tensor(r) for r in ([0, 1, 2], [7, 3, 3], [3, 7, 5], [4, 4, 9])]
    found = Distinct.of(Batch(*rows))
    assert found.images.tolist() == [3, 5, 7]
    assert found.texts.tolist() == [4, 9]
    assert found.images[found.reference].tolist() == [7, 3, 3]
    assert found.images[found.target].tolist() == [3, 7, 5]
    assert found.texts[found.text].tolist() == [4, 4, 9]


def test_the_folder_is_an_encoder(
    tuned: Callable[..., run.Finetuned], encoder_folder: Path, tmp_path: Path
) -> None:
    result = tuned()
    chosen = params()
    run.save(tmp_path / "out", encoder_folder, result, chosen, "a key")
    loaded = clip.load(tmp_path / "out" / record.ENCODER, torch.device("cpu"))
    texts = ["is red"]
    result.encoder.model.eval()
    torch.testing.assert_close(loaded.encode_texts(texts), result.encoder.encode_texts(texts))
    assert "fine-tuned on garments" in loaded.weights
    assert record.is_whole(tmp_path / "out", "a key")
    assert not record.is_whole(tmp_path / "out", "another key")
    found = record.Record.read(tmp_path / "out")
    assert (found.holdout, found.holdout_seed) == (chosen.train.holdout, chosen.train.seed)
    record.take(tmp_path / "out", tmp_path / "copy")
    assert record.is_whole(tmp_path / "copy", "a key")
    path = tmp_path / "copy" / record.ENCODER / clip.WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert not record.is_whole(tmp_path / "copy", "a key")


@pytest.mark.parametrize("name", METHODS)
def test_a_composer_that_reads_nothing_that_is_trained_is_refused_before_any_work(
    name: str, tuned: Callable[..., run.Finetuned]
) -> None:
    if name == "image_only":
        with pytest.raises(UserError, match=r"towers=text: the composer image_only reads no"):
            run.key(params(towers="text", composer=name), "encoder", "tables", [], CPU)
    else:
        tuned(towers="text", composer=name, epochs=1)


def test_theta_changes_the_key_where_the_composer_reads_it() -> None:
    def keys(composer: str) -> set[str]:
        chosen = params(composer=composer)
        other = chosen.model_copy(update={"ua": UaParams(theta=0.3)})
        return {run.key(one, "encoder", "tables", [], CPU) for one in (chosen, other)}

    assert [len(keys(name)) for name in ("head", "rau", "deterministic", "sum")] == [2, 2, 1, 1]


def test_parameters_without_effect_keep_the_key() -> None:
    def key(**changes: Any) -> str:
        return run.key(params(**changes), "encoder", "tables", [], CPU)

    assert key() == key(workers=3, compile=True, picture_cache="never")
    assert len({key(), key(towers="text"), key(epochs=3)}) == 3


def test_the_device_and_the_holdout_are_part_of_the_key() -> None:
    chosen = params()
    train = chosen.train.model_copy(update={"holdout_seed": 7})
    other = chosen.model_copy(update={"train": train})
    keys = [run.key(one, "encoder", "tables", [], CPU) for one in (chosen, other)]
    # `precision: auto` is float16 on CUDA.
    keys.append(run.key(chosen, "encoder", "tables", [], torch.device("cuda")))
    assert len(set(keys)) == 3
