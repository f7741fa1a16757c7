"""One contract for every method of the registry and every loss: whoever registers one is tested.

A method turns features into unit vectors, row by row; its loss is a scalar that reaches every
parameter, in which a row attracts its target and repels all others, unless they are the same image.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from rau.losses.criterion import Terms
from rau.methods import METHODS
from rau.models import checkpoint
from rau.models.config import HeadConfig, canonical
from rau.models.head import ComposedHead
from rau.nn.gaussian import Gaussian, PathOutput
from rau.params import HeadParams, Params, TrainParams, UaParams
from rau.retrieval.ranking import rank

ROWS = 12
WIDTH = 16
# Rows 0 and 5 ask for one image, rows 3, 4 and 11 for another.
IDS = torch.tensor([0, 1, 2, 3, 3, 0, 6, 7, 8, 9, 10, 3])
HALVES = (torch.float16, torch.bfloat16)


def of_method(name: str, two_way: bool = True, **ua: Any) -> Params:
    """Canonical parameters of a small head without dropout."""
    head = HeadParams(name=name, dim=8, hidden=32, dropout=0.0)
    return canonical(Params(head=head, ua=UaParams(**ua), train=TrainParams(two_way=two_way)))


OFF: dict[str, Any] = {"isu": False, "csu_weight": 0.0, "dr_weight": 0.0}
# Every method's own loss, and each term of RAU's by itself.
LOSSES: dict[str, Params] = {
    **{name: of_method(name) for name in METHODS},
    **{f"{name}: two blocks": of_method(name, n=2) for name in METHODS if METHODS[name].blocks},
    "rau: one way": of_method("rau", two_way=False),
    "rau: no block": of_method("rau", n=0),
    "rau: ISU": of_method("rau", **OFF | {"isu": True, "samples": 3}),
    "rau: CSU": of_method("rau", **OFF | {"csu_weight": 1.0, "theta": 0.6}),
    "rau: CSU by quantile": of_method("rau", **OFF | {"csu_weight": 1.0, "theta_quantile": 1.0}),
    "rau: DR": of_method("rau", **OFF | {"dr_weight": 0.5}),
    "rau: DR of all blocks": of_method("rau", **OFF | {"dr_weight": 0.5, "dr_blocks": "all"}, n=2),
}

method = pytest.mark.parametrize("name", METHODS)
space = pytest.mark.parametrize("shared_space", [True, False], ids=["shared", "separate"])
loss = pytest.mark.parametrize("params", LOSSES.values(), ids=LOSSES)


def make(params: Params, shared_space: bool = True) -> ComposedHead:
    """A head with random weights in every layer, also in those that start at zero."""
    torch.manual_seed(0)
    config = HeadConfig.from_params(
        params.head,
        params.ua,
        params.train,
        d_image=WIDTH,
        d_text=WIDTH if shared_space else 12,
        shared_space=shared_space,
        text_weight=0.3,
    )
    head = ComposedHead(config)
    for weight in head.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.2)
    return head.eval()


def rows(seed: int, count: int = ROWS, width: int = WIDTH) -> Tensor:
    """Raw features, far from unit norm."""
    return 5 * torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def inputs(head: ComposedHead) -> tuple[Tensor, Tensor, Tensor]:
    """References, captions and targets; rows of one id have one target."""
    return rows(1), rows(2, width=head.config.d_text), rows(3)[IDS]


def terms(
    head: ComposedHead, params: Params, source: PathOutput, target: PathOutput, ids: Tensor = IDS
) -> Terms:
    """The loss of a batch in the middle of a training."""
    return head.loss(source, target, ids, params.ua, params.train.two_way, progress=0.5)


def noise_by_row(head: ComposedHead, monkeypatch: pytest.MonkeyPatch, scale: float = 1.0) -> None:
    """Noise that depends on a row and not on its place in the batch."""
    monkeypatch.setattr(head.noise, "normal", lambda like: scale * torch.sin(50 * like.detach()))


@method
@space
@pytest.mark.parametrize("n", [0, 1, 2])
def test_vectors_are_unit_rows_of_one_width(name: str, shared_space: bool, n: int) -> None:
    head = make(of_method(name, n=n), shared_space)
    reference, text, _ = inputs(head)
    query, sigma = head.encode_query(reference, text)
    images, image_sigma = head.encode_gallery(rows(3, 7))
    assert (query.shape, images.shape) == ((ROWS, images.shape[1]), (7, query.shape[1]))
    assert (sigma.shape, image_sigma.shape) == ((ROWS,), (7,))
    torch.testing.assert_close(query.norm(dim=1), torch.ones(ROWS))
    torch.testing.assert_close(images.norm(dim=1), torch.ones(7))
    uncertain = n > 0 and (METHODS[name].regularised or METHODS[name].reads_variance)
    assert bool((sigma > 0).all()) == bool((image_sigma > 0).all()) == uncertain
    assert uncertain or not sigma.any()


@method
@space
def test_evaluation_is_deterministic_and_leaves_the_mode(name: str, shared_space: bool) -> None:
    params = of_method(name)
    params = params.model_copy(update={"head": params.head.model_copy(update={"dropout": 0.5})})
    head = make(params, shared_space).train()
    reference, text, target = inputs(head)
    first, second = (head.encode_query(reference, text) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert torch.equal(head.encode_gallery(target)[0], head.encode_gallery(target)[0])
    assert head.training


@method
@space
def test_a_row_does_not_see_its_batch(name: str, shared_space: bool) -> None:
    head = make(of_method(name), shared_space)
    reference, text, target = inputs(head)
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))
    whole, images = head.encode_query(reference, text), head.encode_gallery(target)
    mixed = head.encode_query(reference[order], text[order])
    for found, expected in zip(
        (*mixed, *head.encode_gallery(target[order])), (*whole, *images), strict=True
    ):
        torch.testing.assert_close(found, expected[order])
    alone, sigma = head.encode_query(reference[:1], text[:1])
    torch.testing.assert_close(alone, whole[0][:1])
    torch.testing.assert_close(sigma, whole[1][:1])


@method
@space
def test_a_head_that_was_saved_ranks_the_same(
    tmp_path: Path, name: str, shared_space: bool
) -> None:
    head = make(of_method(name, n=2), shared_space)
    checkpoint.save(tmp_path, head, {})
    again, _ = checkpoint.load(tmp_path, "cpu")
    reference, text, _ = inputs(head)
    found = []
    for one in (head, again):
        query, images = one.encode_query(reference, text)[0], one.encode_gallery(rows(3, 40))[0]
        found.append(rank(query, images, torch.arange(ROWS), torch.full((ROWS,), -1), 40))
    assert (found[0].top == found[1].top).all()
    assert (found[0].target_rank == found[1].target_rank).all()
    assert len(set(found[0].target_rank.tolist())) > 2


@method
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_precision_features_give_nearly_the_same_vectors(
    name: str, dtype: torch.dtype
) -> None:
    head = make(of_method(name))
    reference, text, target = inputs(head)
    exact = head.encode_query(reference, text)[0], head.encode_gallery(target)[0]
    near = (
        head.encode_query(reference.to(dtype), text.to(dtype))[0],
        head.encode_gallery(target.to(dtype))[0],
    )
    for one, other in zip(exact, near, strict=True):
        assert other.dtype == torch.float32
        assert (one * other).sum(1).min() > 0.99


def unread(head: ComposedHead, key: str, params: Params) -> bool:
    """Whether nothing depends on a parameter: a text that does not count, a variance not read."""
    reference, text, _ = inputs(head)
    if "project_text" in key:
        with torch.no_grad():
            one, other = (head.forward_source(reference, t).mean for t in (text, text.flip(0)))
        return torch.equal(one, other)
    if "log_var" not in key:
        return False
    reads_last = head.config.uncertain and f"blocks.{params.ua.n - 1}" in key
    return not (params.ua.isu or params.ua.dr_weight > 0 or reads_last)


@loss
@space
def test_the_gradient_reaches_every_parameter(params: Params, shared_space: bool) -> None:
    head = make(params, shared_space)
    learned = dict(head.named_parameters())
    reads = {key for key in learned if not unread(head, key, params)}
    reference, text, target = inputs(head)
    head.train()
    made = terms(
        head, params, head.forward_source(reference, text), head.forward_target(target)
    ).total
    assert made.shape == ()
    assert made.isfinite()
    assert made.requires_grad == bool(reads)
    if reads:
        torch.autograd.backward(made)
    for key, weight in learned.items():
        if key in reads:
            assert weight.grad is not None, key
            assert weight.grad.isfinite().all(), key
            assert weight.grad.ne(0).any(), key
        else:
            assert weight.grad is None or not weight.grad.any(), key


@loss
def test_the_order_of_a_batch_does_not_change_its_loss(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = make(params).train()
    noise_by_row(head, monkeypatch)
    reference, text, target = inputs(head)
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))
    straight, mixed = (
        terms(
            head,
            params,
            head.forward_source(reference[places], text[places]),
            head.forward_target(target[places]),
            IDS[places],
        )
        for places in (torch.arange(ROWS), order)
    )
    for part in ("total", "base", "csu", "dr"):
        torch.testing.assert_close(getattr(mixed, part), getattr(straight, part))
    assert torch.equal(mixed.positives, straight.positives[order][:, order])
    assert torch.equal(mixed.base_positives, straight.base_positives[order][:, order])


@loss
def test_a_row_attracts_its_target_and_repels_others_but_no_duplicate_of_its_own(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = make(params)
    noise_by_row(head, monkeypatch, scale=0.0)
    # Every source and target are 60 degrees apart, each on an axis of its own beside a common one.
    axes = torch.eye(2 * ROWS + 1)
    own, common = axes[1 : ROWS + 1], axes[:1]
    paths = []
    for beside in (own, axes[ROWS + 1 :]):
        mean = F.normalize(common + beside).requires_grad_()
        blocks = [Gaussian(mean, torch.full_like(mean, -6.0)) for _ in range(params.ua.n)]
        paths.append(PathOutput(tuple(blocks), mean, (mean,)))
    total = terms(head, params, paths[0], paths[1]).total
    (moves,) = torch.autograd.grad(total, paths[1].mean)
    # Descent moves target j towards the axis of source i where the derivative is negative.
    derivatives, same = own @ moves.T, IDS[:, None] == IDS[None]
    assert bool((derivatives.diagonal() < 0).all())
    assert bool((derivatives[same] < 1e-6).all()), "a method may leave them out, never repel them"
    assert bool((derivatives[~same] > 0).all())


@loss
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_precision_gives_a_finite_loss_and_gradient(
    params: Params, dtype: torch.dtype
) -> None:
    head = make(params).train()
    reference, text, target = (one.to(dtype) for one in inputs(head))
    made = terms(head, params, head.forward_source(reference, text), head.forward_target(target))
    assert made.total.dtype == torch.float32
    assert made.total.isfinite()
    if made.total.requires_grad:
        torch.autograd.backward(made.total)
    assert all(w.grad is None or w.grad.isfinite().all() for w in head.parameters())
