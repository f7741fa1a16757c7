"""A property of its own for each method; what all have in common is in `tests/contracts.py`."""

import itertools
import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from rau.evaluation.calibration import TEMPERATURES
from rau.losses import mur
from rau.losses.criterion import LossContext
from rau.losses.pcmepp import MOST, PcmeppLoss, sampled_distances
from rau.methods import METHODS
from rau.models.baselines import fit_ridge
from rau.models.config import HeadConfig, canonical, without_uncertainty
from rau.models.fusion import Combiner, LearnedSum, Tirg
from rau.models.head import ComposedHead
from rau.nn.gaussian import Gaussian, PathOutput
from rau.nn.noise import Noise
from rau.params import HeadParams, Params, TrainParams, UaParams
from tests.heads import small_config
from tests.losses.test_info_nce import slow_info_nce

NAMES = tuple(METHODS)
ROWS = 24


def features(seed: int, rows: int = ROWS, width: int = 16) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) * 5


def chosen(name: str, **ua: Any) -> Params:
    return Params(head=HeadParams(name=name, hidden=32, dropout=0.1), ua=UaParams(**ua))


def make(name: str, shared_space: bool = True, d_text: int = 16, **ua: Any) -> ComposedHead:
    params = canonical(chosen(name, **ua))
    torch.manual_seed(0)
    return ComposedHead(
        HeadConfig.from_params(
            params.head.model_copy(update={"dim": 8}),
            params.ua,
            params.train,
            d_image=16,
            d_text=d_text,
            shared_space=shared_space,
            text_weight=0.3,
        )
    )


def test_every_method_can_be_named_and_has_a_label() -> None:
    for name in NAMES:
        assert HeadParams(name=name).name == name
    with pytest.raises(ValidationError, match="choose from image_only"):
        HeadParams(name="none")
    assert len({method.label for method in METHODS.values()}) == len(NAMES)


@pytest.mark.parametrize("given", [None, 0.0, 0.4])
@pytest.mark.parametrize("shared_space", [True, False])
def test_input_dropout_is_for_projected_features_unless_it_is_given(
    given: float | None, shared_space: bool
) -> None:
    config = HeadConfig.from_params(
        HeadParams(input_dropout=given),
        UaParams(),
        TrainParams(),
        d_image=4,
        d_text=4,
        shared_space=shared_space,
        text_weight=0.5,
    )
    assert config.input_dropout == ((0.0 if shared_space else 0.2) if given is None else given)


@pytest.mark.parametrize("name", ["image_only", "text_only", "sum", "weighted_sum"])
def test_sums_have_nothing_to_learn_in_a_shared_space(name: str) -> None:
    assert not list(make(name).parameters())


@pytest.mark.parametrize(
    ("name", "weight"), [("image_only", 0.0), ("text_only", 1.0), ("sum", 0.5)]
)
def test_untrained_methods_are_the_sums_they_say(name: str, weight: float) -> None:
    reference, text = (F.normalize(features(seed), dim=-1) for seed in (1, 2))
    expected = F.normalize((1 - weight) * reference + weight * text, dim=-1)
    query, _ = make(name).encode_query(features(1), features(2))
    assert torch.allclose(query, expected, atol=1e-6)


def test_weighted_sum_takes_the_holdouts_weight_and_learns_it_where_it_must() -> None:
    reference, text = (F.normalize(features(seed), dim=-1) for seed in (1, 2))
    query, _ = make("weighted_sum").encode_query(features(1), features(2))
    assert torch.allclose(query, F.normalize(0.7 * reference + 0.3 * text, dim=-1), atol=1e-6)
    apart = make("weighted_sum", shared_space=False, d_text=12)
    assert isinstance(apart.fusion, LearnedSum)
    assert apart.fusion.logit.sigmoid().item() == pytest.approx(0.3)


def test_tirg_by_hand() -> None:
    fusion = Tirg(small_config(shared_space=False, dim=4, dropout=0.0), Noise()).eval()
    reference, text = features(1, 3, 4), features(2, 3, 4)
    both = torch.cat([reference, text], 1)
    gate = torch.sigmoid(fusion.gate(both))
    expected = 1.0 * gate * reference + 10 * fusion.residual(both)
    assert torch.allclose(fusion(reference, text), expected)
    # With the gate open and no residual it is the reference.
    last = fusion.gate[2]
    assert isinstance(last, torch.nn.Linear)
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, 50.0)
    fusion.weights.data[1] = 0
    assert torch.allclose(fusion(reference, text), reference)


def test_tirg_takes_a_batch_of_one_row() -> None:
    fusion = Tirg(small_config(shared_space=False, dim=4, dropout=0.5), Noise()).train()
    assert fusion(features(1, 1, 4), features(2, 1, 4)).shape == (1, 4)


def test_combiner_adds_a_convex_sum_of_both() -> None:
    fusion = Combiner(
        small_config(shared_space=False, dim=4, hidden=8, dropout=0.0), Noise()
    ).eval()
    torch.nn.init.zeros_(fusion.output.weight)
    torch.nn.init.zeros_(fusion.output.bias)
    reference, text = features(1, 5, 4), features(2, 5, 4)
    mixed = fusion(reference, text) / 2  # Widened by the root of d.
    share = ((mixed - reference) / (text - reference)).mean(1, keepdim=True)
    assert bool(((share > 0) & (share < 1)).all())
    assert len(set(share.flatten().tolist())) == 5
    assert torch.allclose(mixed, (1 - share) * reference + share * text, atol=1e-5)


def test_mur_noise_has_the_rows_own_mean_and_spread() -> None:
    torch.manual_seed(0)
    target = torch.randn(1, 200_000) * 0.3 + 0.2
    noisy = mur.augment(target, Noise())
    target = mur.NORM * target
    spread, mean = torch.std_mean(target)
    whitened = (target - mean) / spread
    noise = noisy - whitened
    # alpha - 1 and beta - mean both have the spread: the variance is spread^2 (whitened^2 + 1).
    assert noise.mean().item() == pytest.approx(float(mean), abs=0.01)
    assert noise.var().item() == pytest.approx(2 * float(spread) ** 2, rel=0.03)
    assert not torch.equal(mur.augment(target, Noise()), noisy)
    unit = F.normalize(torch.randn(100, 512), dim=-1)
    cosine = (F.normalize(mur.augment(unit, Noise()), dim=-1) * unit).sum(-1).mean()
    assert 0.9 < cosine < 0.98  # Noise that can be noticed, at the width of CLIP.


@pytest.mark.parametrize("name", ["deterministic", "rau"])
def test_a_two_way_loss_is_the_mean_of_both_ways(name: str) -> None:
    head, ua = make(name).eval(), canonical(chosen(name)).ua
    source, goal = head.forward_source(features(1), features(2)), head.forward_target(features(3))
    ids = torch.arange(ROWS)
    both = head.loss(source, goal, ids, ua, True, 0.5).total
    there, back = (
        head.loss(*paths, ids, ua, False, 0.5).total for paths in ((source, goal), (goal, source))
    )
    assert both.item() == pytest.approx((there.item() + back.item()) / 2)
    assert there.item() != pytest.approx(back.item(), rel=1e-4)


@pytest.mark.parametrize("two_way", [True, False])
@pytest.mark.parametrize("progress", [0.0, 0.3, 0.7, 1.0])
def test_mur_weighs_the_noisy_loss_by_exp_of_minus_the_progress(
    progress: float, two_way: bool
) -> None:
    source, target = (F.normalize(features(seed), dim=-1) for seed in (1, 2))
    paths = (PathOutput((), mean, (mean,)) for mean in (source, target))
    ids, tau = torch.arange(ROWS), torch.tensor(0.1)
    context = LossContext(ids, UaParams(), tau, two_way, progress, Noise())
    torch.manual_seed(3)
    found = mur.MurLoss(0.1)(*paths, context).total
    torch.manual_seed(3)
    noisy = mur.augment(target, Noise())
    spread, pairs = noisy.std().item(), torch.eye(ROWS)
    coarse = slow_info_nce(source, noisy, pairs, 0.1, two_way)
    fine = slow_info_nce(source, target, pairs, 0.1, two_way)
    gamma = math.exp(-progress)
    expected = gamma * (math.exp(-spread) * coarse + spread) / 2 + (1 - gamma) * fine
    assert found.item() == pytest.approx(expected, rel=1e-5)


def gaussians(seed: int, rows: int) -> PathOutput:
    generator = torch.Generator().manual_seed(seed)
    mean = F.normalize(torch.randn(rows, 6, generator=generator), dim=-1)
    log_var = torch.randn(rows, 6, generator=generator) - 3
    return PathOutput((Gaussian(mean, log_var),), mean, (mean,))


def test_sampled_distance_is_what_sampling_gives() -> None:
    left, right = gaussians(1, 2), gaussians(2, 3)
    gaussian = [side.blocks[0] for side in (left, right)]
    draws = [one.at(torch.randn(200_000, *one.mean.shape)) for one in gaussian]
    found = sampled_distances(left, right)
    for i, j in itertools.product(range(2), range(3)):
        gap = (draws[0][:, i] - draws[1][:, j]).square().sum(-1).mean()
        assert found[i, j].item() == pytest.approx(gap.item(), rel=0.02)


def test_pcmepp_loss_by_hand() -> None:
    left, right = gaussians(1, 5), gaussians(2, 5)
    criterion = PcmeppLoss(0.1)
    context = LossContext(torch.arange(5), UaParams(), torch.tensor(0.1), True, 0.5, Noise())
    total = 0.0
    distances = sampled_distances(left, right)
    for i, j in itertools.product(range(5), range(5)):
        p = torch.sigmoid(5 - 5 * distances[i, j])
        total -= float(torch.log(p if i == j else 1 - p))
    found = criterion(left, right, context).total.item()
    assert found == pytest.approx(total / 25, rel=1e-5)


@pytest.mark.parametrize("scale", [1.0, 3.0, 60.0])
def test_pcmepp_ranks_by_its_distance_whatever_the_variance(scale: float) -> None:
    left, many = gaussians(1, 5), gaussians(3, 300)
    wide = Gaussian(many.mean, many.blocks[0].log_var + 2 * math.log(scale))
    many = PathOutput((wide,), many.mean, (many.mean,))
    criterion = PcmeppLoss(0.1)
    cosines = criterion.query_vectors(left) @ criterion.gallery_vectors(many).T
    variances = wide.log_var.double().exp().sum(1)
    assert (variances.max() > 4) == (scale > 1)
    assert (variances.min() > MOST) == (scale > 3)
    told = variances.clamp(max=MOST)
    distances = 2 - 2 * left.mean.double() @ many.mean.double().T + told
    order = cosines.argsort(dim=1, descending=True)
    ordered = distances.gather(1, order)
    # In order up to the rounding of float32.
    assert (ordered.diff(dim=1) > -1e-6 * told.max()).all()
    by_mean = (left.mean @ many.mean.T).argsort(dim=1, descending=True)
    assert torch.equal(by_mean, order) == (scale > 3)


def test_pcmepp_cosines_differ_enough_for_half_precision_and_a_temperature() -> None:
    """As an index stores them, and as a calibration's softmax reads them."""
    torch.manual_seed(0)
    images = F.normalize(torch.randn(3000, 512), dim=-1)
    asked = F.normalize(images[:100] + F.normalize(torch.randn(100, 512), dim=-1), dim=-1)
    log_var = math.log(0.36 / 512) + 0.3 * torch.randn(3000, 512)
    gallery = PathOutput((Gaussian(images, log_var),), images, (images,))
    criterion = PcmeppLoss(0.1)
    queries = criterion.query_vectors(PathOutput((), asked, (asked,)))
    exact = queries @ criterion.gallery_vectors(gallery).T
    stored = queries @ criterion.gallery_vectors(gallery).half().float().T
    assert (exact.topk(10).indices == stored.topk(10).indices).all(1).float().mean() > 0.8
    assert exact.topk(2).values.diff().abs().min() > TEMPERATURES[0]


def test_rau_without_its_parts_is_the_deterministic_head() -> None:
    off = chosen("rau", isu=False, csu_weight=0.0, dr_weight=0.0, theta=0.1, samples=3)
    assert canonical(off) == canonical(chosen("deterministic")) == without_uncertainty(off)
    assert canonical(off).ua.theta == UaParams().theta
    assert canonical(chosen("rau")) != canonical(chosen("deterministic"))


def test_what_has_no_effect_does_not_tell_runs_apart() -> None:
    same = [
        (chosen("tirg", n=3, theta=0.2), chosen("tirg", n=0, isu=False)),
        (chosen("rau", csu_weight=0.0, theta=0.1), chosen("rau", csu_weight=0.0, theta=0.9)),
        (chosen("rau", theta_quantile=0.9, theta=0.1), chosen("rau", theta_quantile=0.9)),
        (chosen("rau", n=0, isu=True), chosen("rau", n=0, isu=False, samples=4)),
    ]
    # A patience that three epochs cannot exhaust.
    short = [Params(train=TrainParams(epochs=3, patience=patience)) for patience in (0, 2, 3, 1)]
    same += [(short[0], one) for one in short[1:3]]
    for one, two in same:
        assert canonical(one) == canonical(two)
    assert canonical(short[3]) != canonical(short[0])
    assert canonical(chosen("rau", theta=0.1)) != canonical(chosen("rau", theta=0.9))
    assert canonical(chosen("pcmepp", sigma_init=0.5)) != canonical(chosen("pcmepp"))
    for name in NAMES:
        assert canonical(canonical(chosen(name))) == canonical(chosen(name))


def test_the_ridge_map_is_computed_in_float64_on_the_cpu_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # `mps` has no float64: nothing may be widened that was not brought to the CPU first.
    brought: list[torch.Tensor] = []
    cpu, double = torch.Tensor.cpu, torch.Tensor.double

    def bring(tensor: torch.Tensor) -> torch.Tensor:
        brought.append(cpu(tensor).clone())
        return brought[-1]

    def widen(tensor: torch.Tensor) -> torch.Tensor:
        assert any(tensor is one for one in brought)
        return double(tensor)

    monkeypatch.setattr(torch.Tensor, "cpu", bring)
    monkeypatch.setattr(torch.Tensor, "double", widen)
    found = fit_ridge(torch.randn(9, 4), torch.randn(9, 5), 0.1)
    assert (found.shape, found.dtype) == ((5, 5), torch.float32)
