"""Checkpoints: whole, described, and never unpickled."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from rau.errors import UserError
from rau.models import checkpoint
from rau.models.head import ComposedHead
from tests.heads import small_config


def make(**changes: Any) -> ComposedHead:
    torch.manual_seed(0)
    values = {"d_image": 12, "d_text": 10, "shared_space": False, "dim": 6, "hidden": 5, "n": 2}
    head = ComposedHead(small_config(**values | changes))
    for parameter in head.parameters():
        parameter.data.normal_()
    return head


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    checkpoint.save(tmp_path, make(), {"epoch": 3})
    return tmp_path


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        checkpoint.load(folder, "cpu")
    text = str(caught.value)
    assert "\n" not in text
    return text


def rewrite(folder: Path, text: str, tensors: dict[str, torch.Tensor] | None = None) -> None:
    """Put other JSON, and other tensors where given, in place."""
    head = folder / checkpoint.WEIGHTS
    weights = checkpoint.load_state(head)[0] if tensors is None else tensors
    head.write_bytes(safetensors.torch.save(weights, metadata={"meta": text}))


def describe(folder: Path, **changes: Any) -> None:
    _, meta = checkpoint.load_state(folder / checkpoint.WEIGHTS)
    rewrite(folder, json.dumps(meta | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"shared": True},
        {"n": 0},
        {"learn_temperature": True},
        {"d_text": 12, "shared_space": True},
    ],
)
def test_round_trip(tmp_path: Path, changes: dict[str, Any]) -> None:
    head = make(**changes)
    extra = {"text_weight": 0.4, "encoder": "garments-clip", "nested": {"list": [1, None]}}
    checkpoint.save(tmp_path / "new" / "folder", head, extra)
    loaded, found = checkpoint.load(tmp_path / "new" / "folder", "cpu")
    assert found == extra
    assert loaded.config == head.config
    assert not loaded.training
    assert {n: p.requires_grad for n, p in loaded.named_parameters()} == {
        n: p.requires_grad for n, p in head.named_parameters()
    }
    inputs = torch.randn(4, 12), torch.randn(4, head.config.d_text)
    for left, right in zip(head.encode_query(*inputs), loaded.encode_query(*inputs), strict=True):
        assert torch.equal(left, right)
    assert torch.equal(head.encode_gallery(inputs[0])[0], loaded.encode_gallery(inputs[0])[0])
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["head.safetensors"]


def test_same_head_same_bytes(tmp_path: Path) -> None:
    extra = {"b": 1, "a": {"d": [2, 1], "c": 0.1}}
    for name in ("a", "b"):
        checkpoint.save(tmp_path / name, make(), extra)
    first, second = (tmp_path / name / "head.safetensors" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_missing_cut_or_another_file(saved: Path) -> None:
    path = saved / "head.safetensors"
    whole = path.read_bytes()
    for data in (b"", whole[: len(whole) // 2], whole[:-1], whole + b"\0", b"\xff" * 20):
        path.write_bytes(data)
        assert "head.safetensors is not a head" in refused(saved)
    path.unlink()
    assert "No such file" in refused(saved)
    path.mkdir()
    assert "Is a directory" in refused(saved)


def test_folder_is_missing(tmp_path: Path) -> None:
    assert "head.safetensors" in refused(tmp_path / "nowhere")


def test_heads_in_two_files_are_to_be_trained_again(saved: Path) -> None:
    weights = safetensors.torch.save(make().state_dict())
    (saved / "head.safetensors").write_bytes(weights)
    (saved / "head.json").write_text('{"format": "rau-head-1"}')
    assert "train again" in refused(saved)


def test_stopped_while_writing_keeps_the_old(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(UserError, match="No space"):
            checkpoint.save(saved, make(n=1), {})
    assert checkpoint.load(saved, "cpu")[1] == {"epoch": 3}
    assert len(list(saved.iterdir())) == 1


def test_extra_must_be_json_and_small(saved: Path) -> None:
    with pytest.raises(TypeError):
        checkpoint.save(saved, make(), {"bad": object()})
    with pytest.raises(ValueError, match="larger"):
        checkpoint.save(saved, make(), {"big": "x" * checkpoint.MAX_JSON_BYTES})
    assert checkpoint.load(saved, "cpu")[1] == {"epoch": 3}


def test_pickles_are_never_read(saved: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (saved / "exploded",)

    data = pickle.dumps(Bomb())
    (saved / "head.safetensors").write_bytes(data)
    assert "is not a head" in refused(saved)
    torch.save(make().state_dict(), saved / "head.safetensors")
    assert "is not a head" in refused(saved)
    state = saved / "state.safetensors"
    state.write_bytes(data)
    with pytest.raises(UserError):
        checkpoint.load_state(state)
    assert not (saved / "exploded").exists()


def test_sizes_must_fit(saved: Path) -> None:
    config = make().config.model_dump()
    for name, value in (("dim", 7), ("n", 1), ("shared", True), ("d_image", 13), ("hidden", 65536)):
        describe(saved, config=config | {name: value})
        assert "does not fit" in refused(saved)
    describe(saved, config=config)
    weights, meta = checkpoint.load_state(saved / "head.safetensors")
    first, tensor = next(iter(weights.items()))
    without = {name: weights[name] for name in weights if name != first}
    for changed in (weights | {first: tensor.half()}, weights | {"more": tensor.clone()}, without):
        rewrite(saved, json.dumps(meta), changed)
        assert "does not fit" in refused(saved)
    rewrite(saved, json.dumps(meta), weights)
    checkpoint.load(saved, "cpu")


@pytest.mark.parametrize(
    ("name", "value"), [("dim", 10**9), ("n", 17), ("dropout", 1.5), ("n", "2"), ("colour", 1)]
)
def test_configuration_is_checked(saved: Path, name: str, value: object) -> None:
    describe(saved, config=make().config.model_dump() | {name: value})
    assert f"config.{name}" in refused(saved)


def test_odd_descriptions(saved: Path) -> None:
    describe(saved, format="rau-head-99")
    assert "format" in refused(saved)
    whole = checkpoint.load_state(saved / "head.safetensors")[0]
    for text in ("[]", "null", "{", "[" * 200_000, "1" * 5000, '{"config": {}}'):
        rewrite(saved, text, whole)
        assert "head.safetensors" in refused(saved)


def test_headers_beyond_all_bounds_are_not_read(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = checkpoint.load_state(saved / "head.safetensors")[0]
    rewrite(saved, json.dumps({"big": "x" * 4 * checkpoint.MAX_JSON_BYTES}), weights)
    monkeypatch.delattr(checkpoint, "safe_open")
    assert "is not a head" in refused(saved)


def test_weights_beyond_the_configuration_are_not_read(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, meta = checkpoint.load_state(saved / "head.safetensors")
    rewrite(saved, json.dumps(meta), {name: torch.zeros(9, 9) for name in make().state_dict()})
    monkeypatch.delattr(checkpoint, "_plain")  # What reads the values.
    assert "does not fit" in refused(saved)
    with (saved / "head.safetensors").open("ab") as file:
        file.truncate(1 << 30)
    assert "is not a head" in refused(saved)


def test_state_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "state.safetensors"
    weight = torch.arange(6.0).reshape(2, 3)
    tensors = {
        "rng": torch.get_rng_state(),
        "step": torch.tensor(5),
        "transposed": weight.T,
        "same": weight,
        "half": weight.bfloat16(),
    }
    meta = {"epoch": 4, "best": 0.5, "history": [{"loss": 1.25}]}
    checkpoint.save_state(path, tensors, meta)
    found, again = checkpoint.load_state(path)
    assert again == meta
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)
    torch.set_rng_state(found["rng"])


def test_state_refusals(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    checkpoint.save_state(path, {"x": torch.ones(100)}, {"a": 1})
    whole = path.read_bytes()
    plain = safetensors.torch.save({"x": torch.ones(1)})
    listed = safetensors.torch.save({"x": torch.ones(1)}, metadata={"meta": "[1]"})
    for data in (b"", whole[:-5], whole[:20], b"{}", plain, listed):
        path.write_bytes(data)
        with pytest.raises(UserError, match="training state"):
            checkpoint.load_state(path)
    path.unlink()
    with pytest.raises(UserError, match="cannot read"):
        checkpoint.load_state(path)


def test_no_flipped_bit_is_read(saved: Path) -> None:
    path = saved / "head.safetensors"
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for place in range(start, len(whole), 97):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        assert "is not a head" in refused(saved)
