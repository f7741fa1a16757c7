"""Ranking against hand-worked galleries and against a slow loop, with many ties."""

import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rau.errors import UserError
from rau.report.run_page import chance
from rau.retrieval.metrics import MISSING, per_query, recall_at_k, summarise
from rau.retrieval.ranking import MAP_AT, Ranking, rank
from rau.retrieval.tasks import padded


def ask(scores: list[list[float]], target: list[int], **options: Any) -> Ranking:
    """Rank by given cosines: queries are unit axes, images have the scores as coordinates."""
    table = torch.tensor(scores)
    rest = (1 - table.square().sum(0)).clamp(min=0).sqrt()
    gallery = torch.cat([table, rest[None]]).T
    queries = torch.eye(len(scores), len(scores) + 1)
    removed = torch.tensor(options.pop("removed", [-1] * len(target)))
    top_k = options.pop("top_k", gallery.shape[0])
    if "relevant" in options:
        options["relevant"] = torch.from_numpy(padded(options["relevant"]))
    return rank(queries, gallery, torch.tensor(target), removed, top_k, **options)


def slow(scores: torch.Tensor, target: int, removed: int, truth: list[int]) -> dict[str, Any]:
    """The same from the definitions, by sorting pairs in a loop."""
    order = sorted((-float(s), i) for i, s in enumerate(scores) if i != removed)
    places = [i for _, i in order]
    true = set(truth) - {removed}
    found = [n for n, i in enumerate(places, 1) if i in true]
    precision = {
        cut: sum((n + 1) / rank for n, rank in enumerate(found) if cut is None or rank <= cut)
        / min(cut or len(true), len(true))
        if true
        else 0.0
        for cut in (None, *MAP_AT)
    }
    r_precision = sum(rank <= len(true) for rank in found) / len(true) if true else 0.0
    return {
        "rank": places.index(target) + 1 if target >= 0 else MISSING,
        "top": places,
        "precision": precision,
        "r_precision": r_precision,
    }


def test_hand_worked() -> None:
    ranking = ask([[0.1, 0.5, 0.3, 0.2]], [3], relevant=[[1, 3]])
    assert ranking.target_rank.tolist() == [3]
    assert ranking.top.tolist() == [[1, 2, 3, 0]]
    assert ranking.average_precision[None].tolist() == pytest.approx([(1 + 2 / 3) / 2])
    assert ranking.r_precision is not None
    assert ranking.r_precision.tolist() == [0.5]


def test_ties_fall_in_gallery_order() -> None:
    ranking = ask([[0.5, 0.5, 0.5, 0.7]], [1], top_k=2)
    assert ranking.target_rank.tolist() == [3]
    assert ranking.top.tolist() == [[3, 0]]


def test_removed_reference_leaves_ranking_and_truth() -> None:
    kept = ask([[0.9, 0.5, 0.3]], [1], relevant=[[0, 1]])
    gone = ask([[0.9, 0.5, 0.3]], [1], relevant=[[0, 1]], removed=[0])
    assert (kept.target_rank.tolist(), gone.target_rank.tolist()) == ([2], [1])
    assert gone.top.tolist() == [[1, 2, -1]]
    assert math.isnan(gone.scores[0, -1])
    assert gone.average_precision[None].tolist() == [1.0]


def test_one_image_gallery_and_missing_target() -> None:
    assert ask([[0.3]], [0]).target_rank.tolist() == [1]
    missing = ask([[0.3]], [-1])
    assert missing.target_rank.tolist() == [MISSING]
    assert recall_at_k(missing.target_rank, 50).tolist() == [0.0]


def test_target_that_is_its_removed_reference_is_refused() -> None:
    with pytest.raises(UserError, match="own reference"):
        ask([[0.3, 0.2]], [0], removed=[0])


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(UserError, match="not finite"):
        ask([[0.3, math.nan]], [0])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 9), st.integers(1, 40))
def test_agrees_with_a_slow_loop(seed: int, images: int, queries: int, top_k: int) -> None:
    rng = np.random.default_rng(seed)
    # Few different vectors: most scores tie, and on axes they tie whatever kernel multiplies.
    axes = torch.cat([torch.eye(3), -torch.eye(3)])
    gallery = axes[torch.from_numpy(rng.integers(0, 6, images))]
    asked = torch.from_numpy(rng.normal(size=(queries, 3))).float()
    target = rng.integers(-1, images, queries)
    removed = rng.integers(-1, images, queries)
    removed[removed == target] = -1
    truth = [rng.choice(images, rng.integers(0, images + 1), replace=False) for _ in target]
    relevant = [answers.tolist() for answers in truth]
    results = [
        rank(
            asked,
            gallery,
            torch.tensor(target),
            torch.tensor(removed),
            top_k,
            torch.from_numpy(padded(relevant)),
            block=block,
            slab=slab,
        )
        for block, slab in ((2048, 16384), (1, 16384), (4, 7))
    ]
    unit = torch.nn.functional.normalize
    scores = unit(asked, dim=-1) @ unit(gallery, dim=-1).T
    for row in range(queries):
        expected = slow(scores[row], int(target[row]), int(removed[row]), relevant[row])
        for result in results:
            assert result.target_rank[row] == expected["rank"]
            shown = [i for i in result.top[row].tolist() if i >= 0]
            assert shown == expected["top"][:top_k]
            for cut, value in expected["precision"].items():
                assert result.average_precision[cut][row] == pytest.approx(value)
            assert result.r_precision is not None
            assert result.r_precision[row] == pytest.approx(expected["r_precision"])


def signs(rng: np.random.Generator, rows: int) -> torch.Tensor:
    """Vectors of norm 4, so that cosines are exact in float32 and many tie."""
    return torch.from_numpy(rng.choice([-1.0, 1.0], (rows, 16))).float()


def places(rng: np.random.Generator, images: int, rows: int, columns: int) -> torch.Tensor:
    """Different places in every row, some of them missing."""
    table = rng.random((rows, images)).argsort(axis=1)[:, :columns]
    return torch.from_numpy(np.where(rng.random(table.shape) < 0.2, -1, table))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    images=st.integers(1, 900),
    queries=st.integers(0, 40),
    top_k=st.integers(1, 60),
    block=st.integers(1, 50),
    slab=st.integers(1, 1000),
    half=st.booleans(),
)
def test_any_block_and_slab_agree_with_a_full_sort(
    seed: int, images: int, queries: int, top_k: int, block: int, slab: int, half: bool
) -> None:
    rng = np.random.default_rng(seed)
    asked, gallery = signs(rng, queries), signs(rng, images)
    target = places(rng, images, queries, 1)[:, 0]
    removed = places(rng, images, queries, 1)[:, 0]
    removed[removed == target] = -1
    relevant, subset = places(rng, images, queries, 12), places(rng, images, queries, 5)
    result = rank(
        asked,
        gallery.half() if half else gallery,
        target,
        removed,
        top_k,
        relevant,
        subset,
        block=block,
        slab=slab,
    )
    scores = (asked @ gallery.T / 16).numpy()
    for row in range(queries):
        expected = slow(scores[row], int(target[row]), int(removed[row]), places_of(relevant[row]))
        listed = expected["top"][:top_k]
        assert result.target_rank[row] == expected["rank"]
        assert [place for place in result.top[row].tolist() if place >= 0] == listed
        assert result.scores[row, : len(listed)].tolist() == scores[row, listed].tolist()
        for cut, value in expected["precision"].items():
            assert result.average_precision[cut][row] == pytest.approx(value, abs=1e-12)
        assert result.r_precision is not None
        assert result.r_precision[row] == pytest.approx(expected["r_precision"], abs=1e-12)
        members = set(places_of(subset[row]))
        among = [place for place in expected["top"] if place in members]
        assert result.subset_top is not None
        assert result.subset_rank is not None
        shown = [place for place in result.subset_top[row].tolist() if place != removed[row]]
        assert shown == [*among, *[-1] * (len(shown) - len(among))]
        ahead = [p for p in among if expected["top"].index(p) + 1 < expected["rank"]]
        assert result.subset_rank[row] == (len(ahead) + 1 if target[row] >= 0 else MISSING)


def test_any_strip_agrees_with_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    asked, gallery = signs(rng, 70), signs(rng, 700)
    target, removed = torch.arange(70), torch.arange(70) + 1
    relevant, subset = places(rng, 700, 70, 12), places(rng, 700, 70, 5)
    whole = rank(asked, gallery, target, removed, 9, relevant, subset)
    # Three queries at a time of sixteen that are held.
    monkeypatch.setattr("rau.retrieval.ranking.STRIP", 3 * 768)
    monkeypatch.setattr("rau.retrieval.ranking.HELD", 16 * 768)
    parts = rank(asked, gallery, target, removed, 9, relevant, subset)
    for field in fields(Ranking):
        np.testing.assert_equal(getattr(parts, field.name), getattr(whole, field.name))


def test_one_query_and_few_images_score_as_among_many() -> None:
    generator = torch.Generator().manual_seed(6)
    queries, gallery = (torch.randn(rows, 640, generator=generator) for rows in (100, 300))
    nowhere = torch.full((100,), -1)
    among = rank(queries, gallery, nowhere, nowhere, 300)
    for row in range(5):
        alone = rank(queries[row : row + 1], gallery[:3], nowhere[:1], nowhere[:1], 3)
        where = np.isin(among.top[row], alone.top[0])
        assert alone.top[0].tolist() == among.top[row][where].tolist()
        assert alone.scores[0].tolist() == among.scores[row][where].tolist()


def places_of(row: torch.Tensor) -> list[int]:
    return [place for place in row.tolist() if place >= 0]


def test_scores_agree_with_float64_at_odd_sizes() -> None:
    generator = torch.Generator().manual_seed(3)
    queries, gallery = (torch.randn(rows, 67, generator=generator) for rows in (131, 1999))
    nowhere = torch.full((131,), -1)
    results = [rank(queries, gallery, nowhere, nowhere, 9, slab=slab) for slab in (16384, 333)]
    unit = torch.nn.functional.normalize
    exact = unit(queries.double(), dim=1) @ unit(gallery.double(), dim=1).T
    for result in results:
        found = exact.gather(1, torch.from_numpy(result.top)).numpy()
        np.testing.assert_allclose(result.scores, found, atol=1e-6)
        np.testing.assert_allclose(found, exact.topk(9, dim=1).values.numpy(), atol=1e-6)


def test_twins_across_slabs_tie() -> None:
    generator = torch.Generator().manual_seed(4)
    queries, gallery = (torch.randn(rows, 33, generator=generator) for rows in (40, 300))
    nowhere, target = torch.full((40,), -1), torch.arange(260, 300)
    twice = torch.cat([gallery, gallery])
    for slab in (700, 256, 77):
        first, second = (
            rank(queries, twice, goal, nowhere, 1, slab=slab).target_rank
            for goal in (target, target + 300)
        )
        assert (second == first + 1).all()


def test_order_of_queries_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, gallery = torch.randn(2, 50, 8, generator=generator)
    target = torch.arange(50)
    order = torch.randperm(50, generator=generator)
    nothing = torch.full((50,), -1)
    straight = rank(queries, gallery, target, nothing, 5)
    mixed = rank(queries[order], gallery, target[order], nothing, 5)
    assert (straight.target_rank[order.numpy()] == mixed.target_rank).all()
    assert (straight.top[order.numpy()] == mixed.top).all()


def test_half_precision_gallery_agrees_with_its_float32_copy() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, gallery = torch.randn(2, 300, 16, generator=generator)
    half = gallery.half()
    target, nothing = torch.arange(300), torch.full((300,), -1)
    one = rank(queries, half, target, nothing, 10)
    other = rank(queries, half.float(), target, nothing, 10)
    assert (one.target_rank == other.target_rank).all()
    assert (one.top == other.top).all()


@pytest.mark.parametrize("k", [1, 10, 50])
def test_random_features_land_on_chance(k: int) -> None:
    generator = torch.Generator().manual_seed(1)
    queries, gallery = torch.randn(2, 2000, 64, generator=generator)
    nothing = torch.full((2000,), -1)
    ranks = rank(queries, gallery[:500], torch.arange(2000) % 500, nothing, 1).target_rank
    expected = chance(500, k)
    spread = math.sqrt(expected * (100 - expected) / 2000)
    assert abs(recall_at_k(ranks, k).mean() - expected) < 4 * spread


def test_per_query_and_summary() -> None:
    ranking = ask([[0.5, 0.4, 0.3], [0.1, 0.4, 0.2]], [0, 0], relevant=[[0], [0]])
    values = per_query(ranking, np.array([True, True]))
    assert values["recall_at_1"].tolist() == [100, 0]
    assert values["mean_of_r10_r50"].tolist() == [100, 100]
    assert values["map"].tolist() == pytest.approx([100, 100 / 3])
    unusable = per_query(ranking, np.array([False, True]))
    assert unusable["recall_at_1"].tolist() == [0, 0]
    means = summarise({"a": values, "b": {"recall_at_1": np.array([100.0])}})
    assert means["mean"] == {"recall_at_1": 75.0}
