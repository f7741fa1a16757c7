"""InfoNCE against a slow loop written from its formula."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rau.losses.info_nce import info_nce, info_nce_of_logits, same_target, sampled_info_nce
from rau.losses.rau_loss import csu_positives

IDS = torch.tensor([4, 7, 4, 9, 2, 7])


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_cosine(left: Tensor, right: Tensor) -> float:
    a, b = left.tolist(), right.tolist()
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return float(dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b)))


def slow_info_nce(
    source: Tensor, target: Tensor, positives: Tensor, temperature: float, two_way: bool
) -> float:
    size = len(source)
    total = 0.0
    for i in range(size):
        exps = [math.exp(slow_cosine(source[i], target[j]) / temperature) for j in range(size)]
        chosen = [j for j in range(size) if positives[i, j]]
        total -= sum(math.log(exps[j] / sum(exps)) for j in chosen) / len(chosen)
    if not two_way:
        return total / size
    back = slow_info_nce(target, source, positives.T, temperature, False)
    return (total / size + back) / 2


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    ids=st.lists(st.integers(0, 3), min_size=1, max_size=7),
    temperature=st.floats(0.05, 2),
    two_way=st.booleans(),
    theta=st.floats(-1, 1),
)
def test_info_nce_by_loop(
    seed: int, ids: list[int], temperature: float, two_way: bool, theta: float
) -> None:
    source, target = normal(seed, len(ids), 4), normal(seed + 1, len(ids), 4)
    positives = csu_positives(source, target, same_target(torch.tensor(ids)), theta)
    expected = slow_info_nce(source, target, positives, temperature, two_way)
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        found = info_nce(source.to(dtype), target.to(dtype), positives, temperature, two_way)
        assert found.dtype == dtype
        assert float(found) == pytest.approx(expected, rel=tolerance, abs=tolerance)


def test_info_nce_in_half_precision() -> None:
    source, target = normal(0, 6, 16), normal(1, 6, 16)
    positives = same_target(IDS)
    expected = slow_info_nce(source, target, positives, 0.2, True)
    for dtype in (torch.bfloat16, torch.float16):
        found = info_nce(source.to(dtype), target.to(dtype), positives, 0.2, True)
        assert found.dtype == torch.float32
        assert float(found) == pytest.approx(expected, rel=0.02)


def test_info_nce_is_stable_where_exponentials_overflow() -> None:
    source = torch.eye(4)
    right = info_nce(source, source, torch.eye(4).bool(), 1e-4, True)
    wrong = info_nce(source, source.flip(0), torch.eye(4).bool(), 1e-4, True)
    assert float(right) == 0
    assert float(wrong) == pytest.approx(1e4)


def test_info_nce_gradients() -> None:
    positives = same_target(IDS).bool() | (normal(2, 6, 6) > 1)
    inputs = (
        normal(3, 6, 5).requires_grad_(),
        normal(4, 6, 5).requires_grad_(),
        torch.tensor(0.3, dtype=torch.float64, requires_grad=True),
    )

    def loss(source: Tensor, target: Tensor, temperature: Tensor) -> Tensor:
        return info_nce(source, target, positives, temperature, True)

    assert torch.autograd.gradcheck(loss, inputs)


def test_info_nce_ignores_length_and_refuses_misfits() -> None:
    source, target, positives = normal(0, 6, 5), normal(1, 6, 5), same_target(IDS)
    loss = info_nce(source, target, positives, 0.1, True)
    assert torch.allclose(loss, info_nce(3 * source, target / 7, positives, 0.1, True))
    with pytest.raises(ValueError, match="do not fit"):
        info_nce(source, target[:, :4], positives, 0.1, True)
    with pytest.raises(ValueError, match="do not fit"):
        info_nce(source, target, positives[:5], 0.1, True)


def test_several_sets_of_positives_are_several_losses() -> None:
    source, target = normal(0, 6, 5), normal(1, 6, 5)
    sets = [same_target(IDS), csu_positives(source, target, same_target(IDS), 0.2)]
    found = info_nce(source, target, torch.stack(sets), 0.3, True)
    for loss, positives in zip(found, sets, strict=True):
        assert float(loss) == pytest.approx(slow_info_nce(source, target, positives, 0.3, True))


def test_two_way_is_symmetric_and_one_way_is_not() -> None:
    source, target = normal(0, 6, 5), normal(1, 6, 5)
    positives = csu_positives(source, target, same_target(IDS), 0.2)
    both = [info_nce(source, target, positives, 0.1, way) for way in (True, False)]
    swapped = [info_nce(target, source, positives.T, 0.1, way) for way in (True, False)]
    assert torch.allclose(both[0], swapped[0])
    assert torch.allclose(both[0], (both[1] + swapped[1]) / 2)
    assert not torch.allclose(both[1], swapped[1])


def test_rows_of_one_target_are_positives_never_negatives() -> None:
    mask = same_target(IDS)
    assert mask[0].tolist() == [1, 0, 1, 0, 0, 0]
    assert torch.equal(mask, mask.T)
    # Where all cosines are equal, descent raises every positive cosine and lowers all others.
    logits = torch.zeros(6, 6, dtype=torch.float64, requires_grad=True)
    torch.autograd.backward(info_nce_of_logits(logits, mask, two_way=False))
    assert logits.grad is not None
    assert torch.equal((logits.grad < 0).float(), mask)
    # Two rows of the same query and target: which of them stands where does not matter.
    source, target = normal(0, 6, 5), normal(1, 6, 5)
    other = target[[2, 1, 0, 3, 4, 5]]
    first, second = (info_nce(source, t, mask, 0.1, True) for t in (target, other))
    assert torch.allclose(first, second)


def test_samples_are_averaged() -> None:
    sources, targets = [normal(i, 6, 5) for i in (0, 1)], [normal(i, 6, 5) for i in (2, 3)]
    each = [
        slow_info_nce(s, t, same_target(IDS), 0.1, True)
        for s, t in zip(sources, targets, strict=True)
    ]
    assert float(sampled_info_nce(sources, targets, same_target(IDS), 0.1, True)) == pytest.approx(
        sum(each) / 2
    )
    with pytest.raises(ValueError, match="samples"):
        sampled_info_nce(sources, targets[:1], same_target(IDS), 0.1, True)
    with pytest.raises(ValueError, match="samples"):
        sampled_info_nce([], [], same_target(IDS), 0.1, True)
