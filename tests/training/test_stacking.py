"""A stack of runs trains each as it would be alone; a step never waits for the device."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rau.losses.rau_loss import Weighing
from rau.nn.noise import Noise
from rau.params import HeadParams, Params, TrainParams, UaParams
from rau.retrieval.feature_set import FeatureSet
from rau.training import fit
from rau.training.sampler import Schedule, TrainQueries
from rau.training.stacking import HeadStack
from rau.training.trainer import NotFinite, Trainer
from tests.training.test_trainer import CPU, params, world

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def one_thread() -> None:
    torch.set_num_threads(1)


def chosen(seed: int, name: str = "rau", dropout: float = 0.3, **ua: Any) -> Params:
    return params(seed=seed, epochs=3).model_copy(
        update={
            "head": HeadParams.model_validate(
                {"name": name, "dim": 16, "hidden": 24, "dropout": dropout, "input_dropout": 0.1}
            ),
            "ua": UaParams.model_validate({"theta": 0.5, **ua}),
        }
    )


STUDIES = {
    "theta": [chosen(seed, theta=theta) for seed in (0, 1, 2) for theta in (0.3, 0.6)],
    "quantile": [chosen(seed, theta_quantile=q) for seed in (0, 1) for q in (0.9, 0.97)],
    "weights": [
        chosen(seed, csu_weight=csu, dr_weight=dr, n=2, samples=2, shared=True, dr_blocks="all")
        for seed in (0, 3)
        for csu, dr in ((0.1, 0.5), (0.7, 0.1))
    ],
    "deterministic": [chosen(seed, "deterministic") for seed in (0, 1)],
    "combiner": [chosen(seed, "combiner") for seed in (0, 1, 2)],
    "without blocks": [chosen(seed, n=0) for seed in (0, 1)],
}


@pytest.mark.parametrize("d_text", [16, 9])
@pytest.mark.parametrize("study", list(STUDIES))
def test_a_stack_gives_the_numbers_of_separate_runs(study: str, d_text: int) -> None:
    features, queries = world(d_text=d_text)
    wanted = [
        (one, fit.prepare(one.train, features, queries, [("kept", "forward")]))
        for one in STUDIES[study]
    ]
    assert len({fit.stack_key(*one) for one in wanted}) == 1
    # The seeds' splits have batches of different sizes: rows are padded.
    assert study != "theta" or len({len(prepared.rows) for _, prepared in wanted}) > 1
    together = fit.fit_stack(wanted, features)
    for (one, prepared), found in zip(wanted, together, strict=True):
        alone = fit.fit(one, features, prepared, None, quiet=True)
        assert not isinstance(found, NotFinite)
        for ours, theirs in zip(found.progress.history, alone.progress.history, strict=True):
            assert ours.keys() == theirs.keys()
            for name, value in theirs.items():
                expected = None if value is None else pytest.approx(value, rel=2e-4, abs=1e-5)
                assert ours[name] == expected, name
        assert found.progress.best_epoch == alone.progress.best_epoch
        state = alone.head.state_dict()
        assert found.head.state_dict().keys() == state.keys()
        for name, value in found.head.state_dict().items():
            assert torch.allclose(value, state[name], atol=2e-5), name


def test_runs_of_a_stack_differ_from_each_other() -> None:
    features, queries = world()
    wanted = [
        (one, fit.prepare(one.train, features, queries, [("kept", "forward")]))
        for one in STUDIES["theta"]
    ]
    found = fit.fit_stack(wanted, features)
    losses = [one.progress.history[-1]["csu"] for one in found if not isinstance(one, NotFinite)]
    assert len(set(losses)) == len(wanted)


def test_what_cannot_be_stacked_has_no_key() -> None:
    features, queries = world()
    prepared = fit.prepare(params().train, features, queries, [("kept", "forward")])
    for name in ("tirg", "mur", "pcmepp"):
        assert fit.stack_key(chosen(0, name), prepared) is None
    base = fit.stack_key(chosen(0), prepared)
    assert base == fit.stack_key(chosen(4, theta=0.1, csu_weight=0.9), prepared)
    for other in (
        chosen(0, csu_weight=0.0),
        chosen(0, theta_quantile=0.9),
        chosen(0, n=2),
        chosen(0, dropout=0.5),
        chosen(0, isu=False),
    ):
        assert fit.stack_key(other, prepared) != base


def test_a_run_that_fails_leaves_the_others_alone() -> None:
    features, queries = world()
    both = [chosen(0, dr_weight=1e38), chosen(0, dr_weight=0.2)]
    prepared = fit.prepare(both[0].train, features, queries, [("kept", "forward")])
    failed, found = fit.fit_stack([(one, prepared) for one in both], features)
    assert isinstance(failed, NotFinite)
    assert "not finite in epoch 1" in str(failed)
    alone = fit.fit(both[1], features, prepared, None, quiet=True)
    assert not isinstance(found, NotFinite)
    assert found.progress.best_value == pytest.approx(alone.progress.best_value)


def test_noise_is_the_runs_own_wherever_it_is_drawn() -> None:
    alone, stack = Noise(), Noise()
    alone.bind([7], [5], CPU)
    stack.bind([3, 7, 7], [6, 5, 5], CPU)
    for noise in (alone, stack):
        noise.restart(lambda seed: seed)
    for width in (3, 8):
        one, three = alone.normal(torch.empty(4, width)), stack.normal(torch.empty(3, 6, width))
        assert torch.equal(one, three[1, :4])
        assert torch.equal(three[1], three[2])
        assert not torch.equal(three[0], three[1])
        assert not three[1, 5].any()  # A row that this run does not have.
        kept = alone.keep(torch.empty(4, width), 0.3), stack.keep(torch.empty(3, 6, width), 0.3)
        assert torch.equal(kept[0], kept[1][1, :4])


@pytest.mark.parametrize("share", [0.0001, 0.3, 0.5, 0.9, 1.0])
def test_dropout_keeps_its_share_and_the_mean(share: float) -> None:
    torch.manual_seed(0)
    factors = Noise().keep(torch.empty(1000, 999), share)
    kept = (factors > 0).float().mean().item()
    assert kept == pytest.approx(share, abs=4 * (share * (1 - share) / 999_000) ** 0.5 + 1e-5)
    assert factors.max().item() == pytest.approx(1 / share, rel=0.2)
    assert factors.mean().item() == pytest.approx(1, rel=0.5 if share < 0.01 else 0.01)


class NoWaiting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses what would make a GPU's host wait: values or shapes that depend on data."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        boolean = name.startswith("index") and any(
            isinstance(i, torch.Tensor) and i.dtype == torch.bool
            for i in (args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else ())
        )
        assert name not in self.WAITING, name
        assert not boolean, f"{name} by a mask"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("study", list(STUDIES))
def test_a_step_never_waits_for_the_device(study: str) -> None:
    features, queries = world()
    trainer = Trainer(
        [
            fit._run(one, features, fit.prepare(one.train, features, queries))
            for one in STUDIES[study]
        ],
        STUDIES[study][0].train,
        features,
    )
    trainer.noise.restart(lambda seed: seed)
    trainer.stack.head.train()
    batch = trainer.schedule.epoch(0)[0]
    with NoWaiting():  # type: ignore[no-untyped-call]
        trainer._step(trainer.shares[0], *batch)
        with pytest.raises(AssertionError, match="_local_scalar_dense"):
            trainer.rate.item()


def test_heads_and_their_stack_are_one_storage() -> None:
    features, queries = world()
    one = chosen(0)
    run = fit._run(one, features, fit.prepare(one.train, features, queries))
    stack = HeadStack([run.config, run.config], [0, 1], CPU)
    before = [{k: v.clone() for k, v in head.state_dict().items()} for head in stack.heads]
    with torch.no_grad():
        for weight in stack.weights:
            weight.add_(1)
    for old, head in zip(before, stack.heads, strict=True):
        assert all(torch.allclose(head.state_dict()[k], old[k] + 1) for k in old if "temp" not in k)
    rows = features.image_rows(torch.arange(10))
    both = stack.head.eval().forward_target(rows.expand(2, *rows.shape)).mean
    for head, mean in zip(stack.heads, both, strict=True):
        assert torch.allclose(head.eval().forward_target(rows).mean, mean, atol=1e-6)


def test_a_stack_of_weighings_is_what_its_runs_say() -> None:
    runs = [UaParams(theta=0.2, csu_weight=0.5), UaParams(theta=0.9, csu_weight=0.1)]
    found = Weighing.of_stack(runs, CPU)
    assert isinstance(found.theta, torch.Tensor)
    assert found.theta.tolist() == pytest.approx([0.2, 0.9])
    assert found.quantile is None
    assert found.csu
    assert found.dr
