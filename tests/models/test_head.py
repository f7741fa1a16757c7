"""The head: where it starts, what is random, and what is shared."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import normalize

from rau.models.config import HeadConfig
from rau.models.fusion import GatedResidual
from rau.models.head import ComposedHead
from rau.params import HeadParams, TrainParams, UaParams
from tests.heads import small_config


def make(**changes: Any) -> ComposedHead:
    torch.manual_seed(0)
    return ComposedHead(small_config(**{"dropout": 0.0} | changes))


def features(seed: int, rows: int = 10, width: int = 16) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) * 5


@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize("weight", [0.2, 0.5, 0.8])
def test_starts_as_the_weighted_sum(n: int, weight: float) -> None:
    head = make(n=n, text_weight=weight, dropout=0.5, input_dropout=0.3)
    reference, text, gallery = features(1), features(2), features(3, rows=50)
    query, _ = head.encode_query(reference, text)
    images, _ = head.encode_gallery(gallery)
    expected = (1 - weight) * normalize(reference) + weight * normalize(text)
    assert torch.allclose(query, normalize(expected), atol=1e-6)
    assert torch.allclose(images, normalize(gallery), atol=1e-6)
    plain = normalize(expected) @ normalize(gallery).T
    assert torch.equal((query @ images.T).argsort(dim=1), plain.argsort(dim=1))


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_extreme_text_weight_can_still_learn(weight: float) -> None:
    head = make(text_weight=weight)
    query, _ = head.encode_query(features(1), features(2))
    only = features(2) if weight else features(1)
    assert (query * normalize(only)).sum(1).min() > 0.9999
    torch.autograd.backward(head.forward_source(features(1), features(2)).mean[:, 0].sum())
    assert isinstance(head.fusion, GatedResidual)
    assert head.fusion.gate.bias.grad is not None
    assert head.fusion.gate.bias.grad.ne(0).any()


def test_unlike_encoders_are_projected() -> None:
    head = make(d_image=12, d_text=20, shared_space=False, dim=6)
    query, uncertainty = head.encode_query(features(1, width=12), features(2, width=20))
    images, _ = head.encode_gallery(features(3, width=12))
    assert query.shape == images.shape == (10, 6)
    assert uncertainty.shape == (10,)
    assert torch.allclose(query.norm(dim=1), torch.ones(10))
    assert torch.allclose(images.norm(dim=1), torch.ones(10))
    with pytest.raises(ValueError, match="not \\(B, 20\\)"):
        head.encode_query(features(1, width=12), features(2, width=12))
    with pytest.raises(ValueError, match="not \\(B, 12\\)"):
        head.encode_gallery(features(1, width=20))


def test_shared_space_ignores_dim_and_needs_one_width() -> None:
    assert small_config(dim=7).width == 16
    assert not any("project" in name for name in make(dim=7).state_dict())
    with pytest.raises(ValidationError, match="d_image = d_text"):
        small_config(d_text=4)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("sigma", [0.03, 0.1, 2.0])
def test_sigma_starts_at_sigma_init(n: int, sigma: float) -> None:
    head = make(n=n, sigma_init=sigma)
    for uncertainty in (
        head.encode_query(features(1), features(2))[1],
        head.encode_gallery(features(3))[1],
    ):
        assert torch.allclose(uncertainty, torch.full((10,), sigma), rtol=1e-5)


def test_no_blocks_no_gaussian() -> None:
    head = make(n=0, samples=4).train()
    output = head.forward_source(features(1), features(2))
    assert output.blocks == ()
    assert len(output.samples) == 1
    assert output.samples[0] is output.mean
    assert torch.allclose(output.mean.norm(dim=1), torch.ones(10))
    assert head.encode_query(features(1), features(2))[1].eq(0).all()


def test_evaluation_is_deterministic_and_leaves_the_mode() -> None:
    head = make(n=2, dropout=0.5, input_dropout=0.5).train()
    first, second = (head.encode_query(features(1), features(2)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not first[0].requires_grad
    assert torch.equal(head.encode_gallery(features(3))[0], head.encode_gallery(features(3))[0])
    assert head.training
    assert all(module.training for module in head.modules())
    evaluated = head.eval().forward_source(features(1), features(2))
    assert evaluated.samples == (evaluated.mean,)
    assert torch.equal(evaluated.mean, first[0])


def test_training_samples_with_isu_only() -> None:
    on = make(n=2, samples=3).train()
    first, second = (on.forward_target(features(1)) for _ in range(2))
    assert len(first.samples) == 3
    assert len(first.blocks) == 2
    assert not torch.equal(first.samples[0], first.samples[1])
    assert not torch.equal(first.samples[0], second.samples[0])
    assert not torch.equal(first.blocks[1].mean, second.blocks[1].mean)  # it read a sample
    seeded = []
    for _ in range(2):
        on.noise.seed(5, torch.device("cpu"))
        seeded.append(torch.stack(on.forward_target(features(1)).samples))
    assert torch.equal(*seeded)
    off = make(n=2, samples=3, isu=False).train()
    first, second = (off.forward_source(features(1), features(2)) for _ in range(2))
    assert first.samples == (first.mean,)
    assert torch.equal(first.mean, second.mean)


def test_dropout_only_in_training() -> None:
    head = make(input_dropout=0.5, isu=False).train()
    first, second = (head.forward_target(features(1)).mean for _ in range(2))
    assert not torch.equal(first, second)


def test_shared_blocks_are_one_stack() -> None:
    apart, shared = make(n=2), make(n=2, shared=True)
    block = sum(p.numel() for p in apart.source_blocks.parameters())
    counts = [sum(p.numel() for p in head.parameters()) for head in (apart, shared)]
    assert counts[0] - counts[1] == block
    output = shared.forward_target(features(1))
    torch.autograd.backward(output.mean[:, 0].sum())
    grads = [p.grad for p in shared.source_blocks.parameters()]
    assert any(grad is not None and grad.ne(0).any() for grad in grads)


def test_temperature_is_fixed_or_learned_within_bounds() -> None:
    fixed, learned = make(temperature=2.0), make(temperature=0.1, learn_temperature=True)
    assert float(fixed.temperature) == pytest.approx(2.0)
    assert "log_temperature" not in dict(fixed.named_parameters())
    assert "log_temperature" in dict(learned.named_parameters())
    assert learned.temperature.item() == pytest.approx(0.1)
    for value, bound in ((-20.0, 0.005), (5.0, 1.0)):
        learned.zero_grad()
        learned.log_temperature.data.fill_(value)
        assert learned.temperature.item() == pytest.approx(bound)
        torch.autograd.backward(learned.temperature)
        assert learned.log_temperature.grad is not None
        assert float(learned.log_temperature.grad) == pytest.approx(bound)


def test_any_float_type_of_features() -> None:
    head = make()
    for dtype in (torch.float16, torch.float64):
        query, _ = head.encode_query(features(1).to(dtype), features(2).to(dtype))
        assert query.dtype == torch.float32


def test_configuration_from_parameters() -> None:
    ua, train = UaParams(n=3, samples=2, shared=True), TrainParams(learn_temperature=True)
    config = HeadConfig.from_params(
        HeadParams(dim=9, hidden=11),
        ua,
        train,
        d_image=4,
        d_text=5,
        shared_space=False,
        text_weight=0.3,
    )
    assert (config.n, config.samples, config.shared) == (3, 2, True)
    assert (config.width, config.hidden, config.text_weight) == (9, 11, 0.3)
    assert config.learn_temperature
    assert HeadConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("shared_space", [True, False])
def test_every_parameter_learns_and_the_loss_falls(shared_space: bool) -> None:
    head = make(
        n=2, samples=2, shared_space=shared_space, dim=8, learn_temperature=True, sigma_init=0.3
    ).train()
    reference, text, target = (features(seed, rows=32) for seed in (1, 2, 3))
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
    values = []
    for _ in range(40):
        paths = head.forward_source(reference, text), head.forward_target(target)
        terms = head.loss(*paths, torch.arange(32), UaParams(theta=0.9), True, 0.5)
        optimizer.zero_grad()
        torch.autograd.backward(terms.total)
        optimizer.step()
        values.append(terms.base.item())
    assert all(p.grad is not None and p.grad.ne(0).any() for p in head.parameters())
    assert math.isfinite(values[-1])
    assert values[-1] < values[0] / 2
