"""Options of fine-tuning that change its cost and not its result, or one thing of its result."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.model import CustomTextCLIP
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook
from tqdm import tqdm

from rau.encoders import clip, small_clip
from rau.encoders.towers import side_of
from rau.finetuning import finetuner, run
from rau.finetuning.finetuner import Finetuner
from rau.finetuning.processes import Processes
from rau.finetuning.sides import Encoded
from rau.finetuning.towers import Towers
from rau.params import FinetuneParams
from tests.finetuning import synthetic

Tuned = Callable[..., run.Finetuned]


def losses(result: run.Finetuned) -> list[Any]:
    return [row["loss"] for row in result.progress.history[1:]]


def statistics(model: Any) -> dict[str, Tensor]:
    """The running statistics of BatchNorm."""
    return {n: b.clone() for n, b in model.named_buffers() if "running" in n}


def test_checkpointed_blocks_are_computed_again_to_the_same_losses(
    tuned: Tuned,
) -> None:
    kept = [0]
    count = torch.autograd.graph.saved_tensors_hooks

    def memory(folder: str, **options: Any) -> tuple[list[Any], int]:
        kept[0] = 0

        def pack(tensor: Tensor) -> Tensor:
            kept[0] += tensor.numel()
            return tensor

        with count(pack, lambda tensor: tensor):
            return losses(tuned(folder, epochs=1, **options)), kept[0]

    plain, whole = memory("whole")
    found, again = memory("checkpointed", checkpointing=True)
    assert found == pytest.approx(plain, rel=1e-4)
    assert again < 0.7 * whole


@pytest.mark.parametrize("frozen", [True, False])
def test_statistics_of_batch_norm_move_only_where_they_are_not_frozen(
    frozen: bool, tuned: Tuned, encoder: clip.Encoder, rising: None
) -> None:
    before = statistics(encoder.model)
    after = statistics(tuned(epochs=1, frozen_batch_norm=frozen).encoder.model)
    assert before.keys() == after.keys()
    moved = [not value.equal(after[name]) for name, value in before.items()]
    assert moved == [not frozen] * len(moved)


def test_val_is_measured_under_names_of_its_own_and_chooses_nothing(tuned: Tuned) -> None:
    plain, measured = (tuned(str(curve), epochs=1, val_curve=curve) for curve in (False, True))
    own, others = measured.progress, plain.progress
    assert own.best_epoch == others.best_epoch
    for row, other in zip(own.history, others.history, strict=True):
        val = {name for name in row if name.startswith("val_")}
        assert {name: row[name] for name in row.keys() - val} == other
        assert {"val_mean_of_r10_r50", "val_map"} <= val


def test_gradients_are_clipped_to_their_norm(tuned: Tuned) -> None:
    norms: list[float] = []

    def note(optimizer: Optimizer, *_: Any) -> None:
        grads = [w.grad for g in optimizer.param_groups for w in g["params"] if w.grad is not None]
        norms.append(float(torch.nn.utils.get_total_norm(grads)))

    handle = register_optimizer_step_pre_hook(note)
    try:
        tuned("whole", epochs=1)
        whole = norms[0]
        norms.clear()
        result = tuned("clipped", epochs=1, clip_norm=whole / 2)
    finally:
        handle.remove()
    assert norms[0] == pytest.approx(whole / 2, rel=1e-4)
    # The history has what they were before.
    assert (result.progress.history[-1]["gradient_norm"] or 0) > max(norms)


def test_changed_pictures_are_the_same_when_a_stopped_run_goes_on(
    tuned: Tuned, rising: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"epochs": 1, "augment": ("flip", "crop", "colour")}
    expected = synthetic.weights(tuned("whole", **options))
    monkeypatch.setattr(finetuner, "SAVE_SECONDS", 0)
    own, steps = Finetuner._step, 0

    def step(*arguments: Any) -> Tensor:
        nonlocal steps
        steps += 1
        if steps == 2:
            raise KeyboardInterrupt
        return own(*arguments)

    monkeypatch.setattr(Finetuner, "_step", step)
    with pytest.raises(KeyboardInterrupt):
        tuned("stopped", **options)
    found = synthetic.weights(tuned("stopped", **options))
    assert all(found[name].equal(value) for name, value in expected.items())


def test_compiled_towers_have_the_same_features_and_gradients(
    encoder: clip.Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Traced as ever, and run as it is: what a compiler makes of the trace takes minutes to make.
    compiled = partialmethod(nn.Module.compile, backend="eager")
    monkeypatch.setattr(nn.Module, "compile", compiled)
    # Smaller than the encoder's own, which takes long to trace.
    vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": small_clip.CONFIG["text_cfg"]}
    pictures = torch.randint(256, (3, 32, 32, 3), dtype=torch.uint8)
    tokens = encoder.tokenise(["is red", "is longer and green", "blue"])[0][:, :7]
    found: list[list[Tensor]] = []
    for switch in (False, True):
        torch.manual_seed(0)
        own = replace(encoder, model=open_clip.CLIP(**config))
        made = Towers(own, FinetuneParams(compile=switch), torch.float32)
        made.train()
        features = [made.images(pictures), made.texts(tokens)]
        torch.autograd.backward([side.square().sum() for side in features])
        found.append([*features, *(w.grad for w in made.weights.values() if w.grad is not None)])
    for plain, other in zip(*found, strict=True):
        torch.testing.assert_close(plain, other)


@pytest.mark.parametrize("kind", [open_clip.CLIP, CustomTextCLIP])
def test_both_towers_are_compiled(
    kind: Any, encoder: clip.Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = kind(**small_clip.CONFIG)
    called: list[nn.Module] = []

    def compile(module: nn.Module, **_: Any) -> None:
        module.register_forward_hook(lambda own, *_: called.append(own))

    monkeypatch.setattr(nn.Module, "compile", compile)
    own = replace(encoder, model=model)
    made = Towers(own, FinetuneParams(compile=True), torch.float32)
    made.images(torch.zeros(2, 64, 64, 3, dtype=torch.uint8))
    assert called == [model.visual]
    made.texts(encoder.tokenise(["is red"])[0][:, :4])
    (text,) = called[1:]
    assert {side_of(n) for n, m in model.named_modules() if m is text} == {"text"}
    assert sum(1 for _ in text.parameters()) > 10


def test_memory_does_not_grow_with_the_batch(encoder_folder: Path) -> None:
    """What is kept for the backward pass of a step in pieces: its peak, in numbers."""
    encoder = clip.load(encoder_folder, torch.device("cpu"))
    made = Towers(encoder, FinetuneParams(), torch.float32)
    processes = Processes("cpu", 1)

    class Inputs:
        """A picture of every row, read a piece at a time."""

        def steps(self, rows: Any, seed: int) -> Any:
            for own in rows:
                yield lambda part, own=own: own[part, None, None, None].expand(-1, 64, 64, 3).byte()

    def peak(batch: int, piece: int | None) -> int:
        live, most = 0, 0

        class Kept:
            def __init__(self, tensor: Tensor) -> None:
                nonlocal live, most
                self.tensor = tensor
                live += tensor.numel()
                most = max(most, live)

            def __del__(self) -> None:
                nonlocal live
                live -= self.tensor.numel()

        side = Encoded(Inputs(), Inputs(), made.images, processes, piece)
        with ExitStack() as stack:
            hooks = torch.autograd.graph.saved_tensors_hooks
            stack.enter_context(hooks(Kept, lambda kept: kept.tensor))
            (embed,) = side.steps([torch.arange(batch)], 0)
            embedded = embed(0)
            torch.autograd.backward(embedded.features.square().sum())
            embedded.backward()
        return most

    small = peak(32, 16)
    assert peak(128, 16) < 1.05 * small
    assert peak(128, None) > 6 * small


def test_the_bar_shows_the_loss_of_recent_steps(
    tuned: Tuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[dict[str, str]] = []

    class Bar(tqdm):  # type: ignore[type-arg]
        def set_postfix(self, *_: Any, **values: Any) -> None:
            shown.append(values)

    monkeypatch.setattr(finetuner, "tqdm", Bar)
    monkeypatch.setattr(finetuner, "SHOW_SECONDS", 1000)
    (loss,) = losses(tuned("quick", epochs=1))
    # Steps that are quicker than that are not waited for.
    assert [float(values["loss"]) for values in shown] == pytest.approx([loss], abs=1e-3)
    assert all(values.keys() == {"loss", "holdout", "peak"} for values in shown)
    shown.clear()
    monkeypatch.setattr(finetuner, "SHOW_SECONDS", -1)
    tuned("slow", epochs=1)
    *own, last = [float(values["loss"]) for values in shown]
    assert last == pytest.approx(loss, abs=1e-3)
    assert sum(own) / len(own) == pytest.approx(loss, rel=0.02)
    assert len(set(own)) > 1


def test_texts_of_a_length_are_encoded_together(tmp_path: Path) -> None:
    rows = synthetic.queries()
    for number, row in enumerate(rows):
        row["captions"] = [f"{row['captions'][0]} {'and long ' * (number % 4)}".strip()]
    material = run.prepare(synthetic.params(), synthetic.pictures(tmp_path), rows, [])
    words = [len(text.split()) for text in material.names.texts.names]
    assert len(set(words)) > 2
    assert words == sorted(words)
