"""Training: even batches, correct counts, bit-identical results when repeated and when resumed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from rau.datasets.captions import all_texts
from rau.errors import UserError
from rau.evaluation.benchmark import ranking_rows
from rau.features.table import Features
from rau.models import checkpoint
from rau.models.baselines import WeightedSum, apply_map, fit_ridge, untrained
from rau.params import EvaluateParams, HeadParams, Params, TrainParams, UaParams
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.tasks import build_task, measured, run
from rau.schemas import QueryRow, ends
from rau.training import triplets
from rau.training.epoch_statistics import csu_counts
from rau.training.fit import Fitted, make_trainer, prepare
from rau.training.fit import fit as fit_prepared
from rau.training.sampler import batches
from rau.training.trainer import Trainer

CPU = torch.device("cpu")
COLOURS = 6
SIZES = 5


def synthetic(d_text: int = 16, pools: int = 24) -> tuple[FeatureSet, list[QueryRow]]:
    """Images are a pool, a colour and a size as sums of directions; captions name a change."""
    rng = np.random.default_rng(0)
    pool_of, colour_of, size_of = (rng.normal(size=(n, 16)) for n in (pools, COLOURS, SIZES))
    words = rng.normal(size=(COLOURS, d_text))
    names: list[str] = []
    vectors: list[Any] = []
    for p in range(pools):
        for c in range(COLOURS):
            names.append(f"{p:02}-{c}")
            noise = 0.1 * rng.normal(size=16)
            vectors.append(pool_of[p] + 2 * colour_of[c] + size_of[c % SIZES] + noise)
    queries: list[QueryRow] = []
    for p in range(pools):
        for c in range(COLOURS):
            other = (c + 1 + p % 3) % COLOURS
            queries.append(
                {
                    "query_id": f"dress-train-{len(queries)}",
                    "split": "val" if p % 6 == 0 else "train",
                    "category": "dress" if p % 2 else "shirt",
                    "reference_id": f"{p:02}-{c}",
                    "target_id": f"{p:02}-{other}",
                    "captions": [f"colour {other}", f"now {other}"],
                    "members": None,
                    "relevant": [f"{p:02}-{other}"],
                }
            )
    texts = sorted({text for q in queries for text in all_texts(q["captions"])})
    rows = np.stack([words[int(t[-1])] + 0.05 * rng.normal(size=d_text) for t in texts])
    made = {"key": "k", "space": "shared" if d_text == 16 else "separate"}
    images = Features(names, np.stack(vectors).astype(np.float32), made)
    return FeatureSet.on(CPU, images, Features(texts, rows.astype(np.float32), {})), queries


def params(**train: Any) -> Params:
    defaults: dict[str, Any] = {"epochs": 4, "batch_size": 32, "holdout": 0.2, "device": "cpu"}
    return Params(
        head=HeadParams(dim=16, hidden=32, dropout=0.1, input_dropout=0.0),
        train=TrainParams(**(defaults | train)),
    )


def fit(chosen: Params, features: FeatureSet, queries: list[QueryRow], state: Path) -> Fitted:
    return fit_prepared(chosen, features, prepare(chosen.train, features, queries), state)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("mixed", [True, False])
def test_batches_cover_every_row_evenly(mixed: bool) -> None:
    category = torch.tensor([0] * 50 + [1] * 21)
    found = list(batches(category, 16, mixed, torch.Generator().manual_seed(0)))
    assert sorted(torch.cat(found).tolist()) == list(range(71))
    assert {len(batch) for batch in found} <= ({17, 18} if mixed else {16, 17, 21})
    if not mixed:
        assert all(len(set(category[batch].tolist())) == 1 for batch in found)


def test_csu_counts_by_hand() -> None:
    base = torch.eye(3)
    positives = base.clone()
    positives[0, 1] = positives[1, 2] = 1
    truth = base.clone()
    truth[0, 1] = truth[2, 0] = truth[2, 1] = 1
    assert csu_counts(positives, base, truth).tolist() == [2, 1, 3]
    assert csu_counts(positives, base, None).tolist() == [2, 0, 0]


def test_truth_of_a_batch_is_what_the_queries_say() -> None:
    features, queries = synthetic()
    rows = triplets.triplets_of(queries, features)
    batch = torch.arange(0, len(queries), 3)
    found = rows.true_pairs(batch, rows.target[batch])
    assert found is not None
    for i, a in enumerate(batch.tolist()):
        for j, b in enumerate(batch.tolist()):
            assert bool(found[i, j]) == (queries[b]["target_id"] in queries[a]["relevant"])


def test_holdout_shares_no_image_with_train() -> None:
    features, queries = synthetic()
    split = triplets.divide(queries, features, 0.2, 0)
    ends = [
        {q[end] for q in side for end in ("reference_id", "target_id")}
        for side in (split.train, split.holdout)
    ]
    assert not ends[0] & ends[1]
    assert {q["split"] for q in split.train + split.holdout} == {"train"}


@pytest.mark.parametrize("removed", [False, True])
def test_the_holdouts_gallery_has_its_references_targets_and_distractors(
    monkeypatch: pytest.MonkeyPatch, removed: bool
) -> None:
    features, queries = synthetic()
    monkeypatch.setattr(triplets, "DISTRACTORS", 10)
    split = triplets.divide(queries, features, 0.2, 0)
    held = split.holdout[::3]
    references, targets = ({q[end] for q in held} for end in ("reference_id", "target_id"))
    assert references - targets
    assert targets - references
    tasks = triplets.holdout_tasks(replace(split, holdout=held), features, "forward", removed)
    assert [task.category for task in tasks] == ["dress", "shirt"]
    for task in tasks:
        own = [query for query in held if query["category"] == task.category]
        others = set(split.distractors[task.category])
        assert set(task.gallery_ids) == {end for query in own for end in ends(query)} | others


@pytest.mark.parametrize("most", [10, 1000])
def test_distractors_are_train_images_of_the_category_that_the_holdout_does_not_have(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    features, queries = synthetic()
    monkeypatch.setattr(triplets, "DISTRACTORS", most)
    split = triplets.divide(queries, features, 0.2, 0)
    for category, found in split.distractors.items():
        train = {i for q in split.train if q["category"] == category for i in ends(q)}
        assert len(set(found)) == len(found) == min(most, len(train))
        assert set(found) <= train  # Nothing is dropped in this data set.
    same, other = (triplets.divide(queries, features, 0.2, seed).distractors for seed in (0, 1))
    assert split.distractors == same != other


def test_queries_without_images_are_counted() -> None:
    features, queries = synthetic()
    gone = Features(features.images.names[1:], features.images.matrix[1:], {"space": "shared"})
    split = triplets.divide(
        [q | {"split": "train"} for q in queries], FeatureSet.on(CPU, gone, features.texts), 0.2, 0
    )
    lost = sum("00-0" in (q["reference_id"], q["target_id"]) for q in queries)
    assert split.unusable == lost > 0


@pytest.mark.parametrize("d_text", [16, 12])
def test_same_seed_is_bit_identical_and_learns(tmp_path: Path, d_text: int) -> None:
    features, queries = synthetic(d_text)
    one, two = (fit(params(), features, queries, tmp_path / str(i)) for i in range(2))
    assert one.training.history == two.training.history
    assert one.extra == two.extra
    for a, b in zip(one.head.state_dict().values(), two.head.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert (one.text_map is None) == (d_text == 16)
    other = fit(params(seed=1), features, queries, tmp_path / "3")
    assert other.training.history != one.training.history
    losses = [row["base"] for row in one.training.history[1:]]
    assert losses[-1] is not None
    assert losses[0] is not None
    assert losses[-1] < losses[0]
    again = fit(params(), features, queries, tmp_path / "0")
    assert again.training.history == one.training.history


class Stop(Exception):
    """Raised in place of a kill."""


@contextmanager
def stopped_after(monkeypatch: pytest.MonkeyPatch, epochs: int) -> Iterator[None]:
    """The training in the block is stopped after so many epochs."""
    real = Trainer._epoch

    def stopping(trainer: Trainer, epoch: int) -> Any:
        if epoch == epochs:
            raise Stop
        return real(trainer, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_epoch", stopping)
        with pytest.raises(Stop):
            yield


@pytest.mark.parametrize(("isu", "ema"), [(True, 0.9), (False, 0.0)])
def test_stopped_run_resumes_bit_identically(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isu: bool, ema: float
) -> None:
    features, queries = synthetic()
    chosen = params(ema=ema).model_copy(update={"ua": UaParams(isu=isu, n=2, samples=2, theta=0.5)})
    whole = fit(chosen, features, queries, tmp_path / "whole")
    with stopped_after(monkeypatch, epochs=2):
        fit(chosen, features, queries, tmp_path / "state")
    assert (tmp_path / "state").exists()
    resumed = fit(chosen, features, queries, tmp_path / "state")
    assert resumed.training == whole.training
    pairs = zip(resumed.head.state_dict().items(), whole.head.state_dict().values(), strict=True)
    for (name, a), b in pairs:
        assert torch.equal(a, b), name


def test_a_training_that_has_ended_early_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, queries = synthetic()
    chosen = params(epochs=60, patience=2)
    whole = fit(chosen, features, queries, tmp_path / "state")
    assert whole.training.epoch == whole.training.best_epoch + 2 < 60
    monkeypatch.setattr(Trainer, "_epoch", None)
    again = fit(chosen, features, queries, tmp_path / "state")
    assert again.training == whole.training
    assert all(
        torch.equal(a, b)
        for a, b in zip(again.head.parameters(), whole.head.parameters(), strict=True)
    )


def test_a_training_of_the_most_epochs_can_be_saved(tmp_path: Path) -> None:
    fitted = fit(params(epochs=1), *synthetic(), tmp_path / "state")
    row = json.dumps(fitted.training.history[-1])
    with pytest.raises(ValidationError):
        params(epochs=checkpoint.MAX_JSON_BYTES // len(row))


def test_loss_that_is_not_finite_says_what_to_do(tmp_path: Path) -> None:
    features, queries = synthetic()
    chosen = params().model_copy(update={"ua": UaParams(dr_weight=1e38)})
    with pytest.raises(UserError, match=r"not finite in epoch 1.*lower train\.lr"):
        fit(chosen, features, queries, tmp_path / "state")


def test_map_without_truth_is_refused(tmp_path: Path) -> None:
    features, queries = synthetic()
    unknown = [q | {"relevant": None} for q in queries]
    with pytest.raises(UserError, match=r"train\.select=map needs known relevance"):
        fit(params(select="map"), features, unknown, tmp_path / "state")
    fitted = fit(params(), features, unknown, tmp_path / "state")
    assert fitted.training.history[1]["csu_precision"] is None


def test_theta_one_adds_nothing_and_no_block_works(tmp_path: Path) -> None:
    features, queries = synthetic()
    for ua in (UaParams(theta=1.0), UaParams(n=0)):
        fitted = fit(
            params().model_copy(update={"ua": ua}), features, queries, tmp_path / str(ua.n)
        )
        last = fitted.training.history[-1]
        if ua.n:
            assert last["csu_added_per_row"] == 0
        else:
            assert (last["sigma_source"], last["sigma_target"]) == (0, 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epoch": "x"}, "epoch: Input should be a valid integer"),
        ({"history": []}, "its epochs do not fit each other"),
        ({"best_epoch": 9}, "its epochs do not fit each other"),
        ({"history": [[]]}, "history.0: Input should be a valid dictionary"),
        (None, "optimizer.0.exp_avg does not fit"),
    ],
)
def test_a_damaged_training_state_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any] | None, said: str
) -> None:
    features, queries = synthetic()
    path = tmp_path / "state"
    fit(params(epochs=1), features, queries, path)
    tensors, meta = checkpoint.load_state(path)
    if change is None:
        tensors["optimizer.0.exp_avg"] = torch.zeros(1)
    checkpoint.save_state(path, tensors, meta | (change or {}))
    with pytest.raises(UserError, match=f"{said}.*remove it"):
        fit(params(epochs=1), features, queries, path)


def test_weighted_sum_by_hand_and_its_ends() -> None:
    reference, text = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 5.0]])
    mixed, spread = WeightedSum(0.25).encode_query(reference, text)
    torch.testing.assert_close(mixed, F.normalize(torch.tensor([[0.75, 0.25]]), dim=-1))
    assert spread.tolist() == [0]
    methods = untrained(0.25, None)
    assert methods["image only"].encode_query(reference, text)[0].tolist() == [[1, 0]]
    raw, _ = methods["raw sum"].encode_query(reference, text)
    torch.testing.assert_close(raw, F.normalize(torch.tensor([[3.0, 5.0]]), dim=-1))
    assert methods["text only"].encode_query(reference, text)[0].tolist() == [[0, 1]]


@pytest.mark.parametrize("unusable", ["miss", "leave_out"])
def test_target_that_is_removed_is_a_miss(unusable: Literal["miss", "leave_out"]) -> None:
    features, queries = synthetic()
    own = queries[0] | {"target_id": queries[0]["reference_id"], "relevant": None}
    gallery = [query["reference_id"] for query in queries]
    evaluate = EvaluateParams(unusable=unusable)
    for removed, best in ((True, 0.0), (False, 100.0)):
        tasks = [build_task("dress", [own], gallery, "forward", removed, features)]
        ranked = [run(tasks[0], WeightedSum(0.0), features, 3)]
        values, _ = measured(tasks, ranked, evaluate)
        assert values["dress"]["recall_at_50"].tolist() == [best]
        row = ranking_rows("m", "p", tasks[0], ranked[0]).to_pylist()[0]
        assert row["target_rank"] == (None if removed else 1)
        assert len(row["top"]) == 3


def test_a_query_whose_target_is_its_reference_trains(tmp_path: Path) -> None:
    features, queries = synthetic()
    own = [q | {"target_id": q["reference_id"], "relevant": None} for q in queries]
    assert fit(params(), features, own, tmp_path / "state").training.epoch > 0


@pytest.mark.parametrize("count", [1, 3, 5])
def test_any_number_of_captions(tmp_path: Path, count: int) -> None:
    features, queries = synthetic()
    captions = [f"c{n}" for n in range(count)]
    own = [q | {"captions": captions if n % 2 else q["captions"]} for n, q in enumerate(queries)]
    texts = sorted({text for query in own for text in all_texts(query["captions"])})
    matrix = np.random.default_rng(0).normal(size=(len(texts), features.texts.matrix.shape[1]))
    named = Features(texts, matrix.astype(np.float32), features.texts.metadata)
    both = FeatureSet.on(torch.device("cpu"), features.images, named)
    assert fit(params(), both, own, tmp_path / "state").training.epoch > 0


def test_gallery_without_images_is_named() -> None:
    features, queries = synthetic()
    with pytest.raises(UserError, match="no image of the gallery of dress"):
        build_task("dress", queries[:1], ["absent"], "forward", False, features)


def test_ridge_against_its_normal_equations() -> None:
    generator = torch.Generator().manual_seed(0)
    text, target = torch.randn(40, 5, generator=generator), torch.randn(40, 3, generator=generator)
    found = fit_ridge(text, target, 0.1).double()
    x, y = F.normalize(text.double(), dim=-1), F.normalize(target.double(), dim=-1)
    residual = x @ found[:-1] + found[-1] - y
    torch.testing.assert_close(
        x.T @ residual / 40 + 0.1 * found[:-1], torch.zeros(5, 3).double(), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(residual.mean(0), torch.zeros(3).double(), atol=1e-6, rtol=0)
    assert apply_map(found, text).norm(dim=-1).tolist() == pytest.approx([1] * 40)


def test_target_outside_its_gallery_is_refused() -> None:
    features, queries = synthetic()
    with pytest.raises(UserError, match="is not in its gallery"):
        build_task("dress", queries[:1], ["00-5"], "forward", False, features)


def test_missing_images_count_as_misses() -> None:
    features, queries = synthetic()
    absent = {queries[0]["target_id"], queries[1]["reference_id"]}
    keep = [i for i, name in enumerate(features.images.names) if name not in absent]
    fewer = Features(
        [features.images.names[i] for i in keep], features.images.matrix[keep], {"key": "k"}
    )
    some = FeatureSet.on(CPU, fewer, features.texts)
    gallery = [end for q in queries[:3] for end in ends(q)]
    task = build_task("dress", queries[:3], gallery, "forward", False, some)
    assert task.usable.tolist() == [False, False, True]
    ranked = run(task, WeightedSum(0.5), some, 5)
    assert ranked.ranking.target_rank[:2].tolist() == [0, 0]
    assert ranked.ranking.target_rank[2] > 0


def test_both_orders_are_averaged_and_separate_makes_two_rows() -> None:
    features, queries = synthetic()
    gallery = [ends(q)[1] for q in queries[:4]]
    both = build_task("dress", queries[:4], gallery, "both", False, features)
    separate = build_task("dress", queries[:4], gallery, "separate", False, features)
    assert (both.text.shape, separate.text.shape) == ((4, 2), (8, 1))
    assert separate.clusters.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert separate.text.flatten().tolist() == both.text.flatten().tolist()
    method = WeightedSum(0.5)
    orders = torch.stack(
        [
            method.encode_query(
                features.image_rows(torch.from_numpy(both.reference)),
                features.text_rows(torch.from_numpy(both.text[:, order])),
            )[0]
            for order in (0, 1)
        ]
    )
    images = F.normalize(features.image_rows(torch.from_numpy(both.gallery)), dim=-1)
    averaged = F.normalize(orders.mean(0), dim=-1) @ images.T
    found = run(both, method, features, len(gallery)).ranking
    shown = averaged.gather(1, torch.from_numpy(found.top)).numpy()
    np.testing.assert_allclose(found.scores, shown, atol=1e-6)
    apart = run(separate, method, features, len(gallery)).ranking
    for order in (0, 1):
        one = (orders[order] @ images.T).gather(1, torch.from_numpy(apart.top[order::2]))
        np.testing.assert_allclose(apart.scores[order::2], one, atol=1e-6)
        # Neither order alone would give what their mean gives.
        assert not np.allclose(np.sort(found.scores), np.sort(apart.scores[order::2]), atol=1e-3)


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


@pytest.mark.parametrize(
    ("name", "ua"),
    [
        ("rau", {"theta": 0.3}),
        ("rau", {"theta_quantile": 0.9}),
        ("rau", {"n": 2, "samples": 2, "shared": True, "dr_blocks": "all"}),
        ("rau", {"n": 0}),
        ("deterministic", {}),
        ("combiner", {}),
        ("tirg", {}),
        ("mur", {}),
        ("pcmepp", {}),
    ],
)
@pytest.mark.parametrize("learned", [False, True])
def test_a_step_never_waits_for_the_device(name: str, ua: dict[str, Any], learned: bool) -> None:
    features, queries = synthetic()
    chosen = params(learn_temperature=learned).model_copy(
        update={
            "head": HeadParams.model_validate({"name": name, "dropout": 0.3, "input_dropout": 0.1}),
            "ua": UaParams.model_validate(ua),
        }
    )
    trainer = make_trainer(chosen, features, prepare(chosen.train, features, queries))
    trainer.head.noise.seed(0, CPU)
    trainer.head.train()
    batch = trainer.sampler.epoch(0)[0]
    with NoWaiting():  # type: ignore[no-untyped-call]
        trainer._step(0, batch)
        with pytest.raises(AssertionError, match="_local_scalar_dense"):
            torch.ones(1).item()
