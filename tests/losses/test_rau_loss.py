"""RAU's loss against slow loops written from its formulas."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rau.losses import rau_loss
from rau.losses.criterion import LossContext, Terms
from rau.losses.info_nce import same_target, sampled_info_nce
from rau.losses.rau_loss import RauLoss, csu_positives, dr_loss
from rau.nn.divergences import DIVERGENCES
from rau.nn.gaussian import Gaussian, PathOutput
from rau.nn.noise import Noise
from rau.params import UaParams
from tests.losses.test_info_nce import IDS, normal, slow_cosine


def output(seed: int, blocks: int = 2, samples: int = 2) -> PathOutput:
    made = tuple(
        Gaussian(torch.nn.functional.normalize(normal(seed + i, 6, 5)), normal(seed + 9 + i, 6, 5))
        for i in range(blocks)
    )
    mean = made[-1].mean if made else torch.nn.functional.normalize(normal(seed, 6, 5))
    return PathOutput(made, mean, tuple(normal(seed + 20 + i, 6, 5) for i in range(samples)))


def total_loss(
    source: PathOutput,
    target: PathOutput,
    ids: Tensor,
    ua: UaParams,
    temperature: float,
    two_way: bool,
) -> Terms:
    tau = torch.tensor(temperature, dtype=torch.float64)
    found = RauLoss(temperature)(source, target, LossContext(ids, ua, tau, two_way, 0.5, Noise()))
    assert isinstance(found, Terms)
    return found


def test_csu_positives_by_loop() -> None:
    source, target = normal(0, 6, 3), normal(1, 6, 3)
    found = csu_positives(source, target, same_target(IDS), 0.4)
    for i in range(6):
        for j in range(6):
            near = slow_cosine(source[i], target[j]) >= 0.4
            assert bool(found[i, j]) == (bool(IDS[i] == IDS[j]) or near)
    assert found.sum() > same_target(IDS).sum()


def test_a_cosine_of_exactly_theta_is_a_csu_positive() -> None:
    # Rows of four signs have norm 2: their cosines are multiples of a half, without rounding.
    signs = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, -1], [1, 1, -1, -1], [-1, -1, -1, 1]])
    cosines = [[round(slow_cosine(a, b), 3) for b in signs] for a in signs]
    base = torch.eye(4)
    for theta in (-0.5, 0.0, 0.5):
        expected = [
            [float(c >= theta or i == j) for j, c in enumerate(row)]
            for i, row in enumerate(cosines)
        ]
        assert any(theta in row for row in cosines)
        assert csu_positives(signs, signs, base, theta).tolist() == expected


def test_csu_at_the_ends_of_theta() -> None:
    base = torch.eye(300)
    same = normal(5, 1, 37).float().expand(300, 37)  # equal vectors, cosines of 1 +- rounding
    assert torch.equal(csu_positives(same, same, base, 1.0), base)
    assert csu_positives(same, -same, base, -1.0).all()


def test_csu_mask_has_no_gradient() -> None:
    source, target = normal(0, 6, 5).requires_grad_(), normal(1, 6, 5).requires_grad_()
    assert not csu_positives(source, target, same_target(IDS), 0.0).requires_grad
    means = output(0)
    mean = means.mean.clone().requires_grad_()
    ua = UaParams(theta=0.0, csu_weight=1.0, dr_weight=0.0)
    draw = normal(3, 6, 5).requires_grad_()
    terms = total_loss(
        replace(means, mean=mean, samples=(draw,)), output(1, samples=1), IDS, ua, 1, True
    )
    assert torch.autograd.grad(terms.total, [mean], allow_unused=True, retain_graph=True)[0] is None
    assert torch.autograd.grad(terms.total, [draw])[0].ne(0).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("two_way", [True, False])
def test_theta_one_is_base_exactly(dtype: torch.dtype, two_way: bool) -> None:
    samples = [normal(seed, 6, 5).to(dtype) for seed in range(4)]
    source = replace(output(0), samples=tuple(samples[:2]))
    target = replace(output(0), samples=tuple(samples[2:]))  # equal means: cosines of 1
    terms = total_loss(source, target, IDS, UaParams(theta=1.0), 0.07, two_way)
    assert torch.equal(terms.csu, terms.base)
    assert torch.equal(terms.positives, same_target(IDS))


def slow_dr(source: Gaussian, target: Gaussian) -> float:
    total = 0.0
    for a, b in ((source.mean, target.mean), (source.sigma, target.sigma)):
        total += sum((x - y) ** 2 for x, y in zip(a.flatten(), b.flatten(), strict=True)).item()
    return total / len(source.mean)


def test_dr_by_loop() -> None:
    source, target = output(0, blocks=3), output(50, blocks=3)
    each = [slow_dr(s, t) for s, t in zip(source.blocks, target.blocks, strict=True)]
    assert float(dr_loss(source, target, UaParams())) == pytest.approx(each[-1])
    assert float(dr_loss(source, target, UaParams(dr_blocks="all"))) == pytest.approx(sum(each) / 3)
    with pytest.raises(ValueError, match="zip"):
        dr_loss(source, output(1, blocks=2), UaParams(dr_blocks="all"))


@pytest.mark.parametrize("name", DIVERGENCES)
def test_dr_is_the_divergence_that_is_asked_for(name: str) -> None:
    source, target = output(0), output(50)
    ua = UaParams.model_validate({"dr": name})
    rows = [
        DIVERGENCES[name](Gaussian(s[0], s[1]), Gaussian(t[0], t[1])).item()
        for s, t in zip(
            zip(source.blocks[-1].mean, source.blocks[-1].log_var, strict=True),
            zip(target.blocks[-1].mean, target.blocks[-1].log_var, strict=True),
            strict=True,
        )
    ]
    assert float(dr_loss(source, target, ua)) == pytest.approx(sum(rows) / len(rows))


def test_without_blocks_all_terms_work() -> None:
    source, target = output(0, blocks=0, samples=1), output(1, blocks=0, samples=1)
    expected = (source.mean - target.mean).square().sum(1).mean()
    terms = total_loss(source, target, IDS, UaParams(n=0, theta=0.2), 0.1, True)
    assert torch.allclose(terms.dr, expected)
    assert terms.total.isfinite()


@pytest.mark.parametrize("blocks", ["last", "all"])
def test_total_is_the_weighted_sum(blocks: str) -> None:
    source, target = output(0), output(50)
    ua = UaParams.model_validate(
        {"theta": 0.2, "csu_weight": 0.7, "dr_weight": 0.3, "dr_blocks": blocks}
    )
    terms = total_loss(source, target, IDS, ua, 0.1, False)
    mask = csu_positives(source.mean, target.mean, same_target(IDS), 0.2)
    assert torch.equal(terms.positives, mask)
    csu = sampled_info_nce(source.samples, target.samples, mask, 0.1, False)
    dr = dr_loss(source, target, ua)
    base = sampled_info_nce(source.samples, target.samples, same_target(IDS), 0.1, False)
    assert torch.allclose(terms.total, base + 0.7 * csu + 0.3 * dr)
    assert torch.allclose(terms.csu, csu)
    assert torch.equal(terms.dr, dr)


def test_weight_zero_removes_a_term(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> Tensor:
        raise AssertionError("computed")

    monkeypatch.setattr(rau_loss, "csu_positives", never)
    monkeypatch.setattr(rau_loss, "dr_loss", never)
    off = UaParams(csu_weight=0.0, dr_weight=0.0)
    terms = total_loss(output(0), output(50), IDS, off, 0.1, True)
    assert torch.equal(terms.total, terms.base)
    assert float(terms.csu) == float(terms.dr) == 0
    assert torch.equal(terms.positives, same_target(IDS))
    on = UaParams(csu_weight=0.1, dr_weight=0.0)
    with pytest.raises(AssertionError):
        total_loss(output(0), output(50), IDS, on, 0.1, True)


def test_total_gradients() -> None:
    ua = UaParams(theta=0.2, dr_blocks="all")
    parts = [normal(seed, 6, 4).requires_grad_() for seed in range(4)]

    def loss(mean_s: Tensor, var_s: Tensor, mean_t: Tensor, var_t: Tensor) -> Tensor:
        paths = []
        for mean, var in ((mean_s, var_s), (mean_t, var_t)):
            made = Gaussian(mean, var)
            paths.append(PathOutput((made,), mean, made.at(normal(1, 2, 6, 4)).unbind()))
        return total_loss(paths[0], paths[1], IDS, ua, 0.5, True).total

    assert torch.autograd.gradcheck(loss, parts)


@pytest.mark.parametrize("quantile", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("scale", [0.2, 1.0])
def test_a_quantile_adds_the_same_share_whatever_the_cosines(quantile: float, scale: float) -> None:
    rows = torch.randn(2, 12, 5, generator=torch.Generator().manual_seed(0))
    rows = rows * scale + 3 * (1 - scale)  # The smaller the scale, the more alike the rows.
    base = same_target(torch.tensor([0, 0, *range(1, 11)]))
    positives = csu_positives(rows[0], rows[1], base, 1.0, quantile)
    cosines = torch.nn.functional.cosine_similarity(rows[0][:, None], rows[1][None], dim=-1)
    others = sorted(cosines[base == 0].tolist())
    added = positives > base
    wanted = len(others) - max(1, math.ceil(quantile * len(others)))
    assert int(added.sum()) == wanted
    if wanted:
        assert cosines[added].min() >= others[-wanted] - 1e-6
    assert bool((positives >= base).all())


def test_a_batch_of_one_target_has_no_other_pairs() -> None:
    rows = torch.randn(2, 3, 4)
    base = same_target(torch.zeros(3, dtype=torch.long))
    assert bool(csu_positives(rows[0], rows[1], base, 0.5, 0.9).all())
