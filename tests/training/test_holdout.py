"""The holdout shares no image with the rest, and every query is accounted for."""

import itertools
import random

import pytest

from rau.training.holdout import Edge, Split, carve


def ends(edges: list[Edge], rows: list[int]) -> set[str]:
    return {end for row in rows for end in (edges[row].reference, edges[row].target)}


def check(edges: list[Edge], split: Split) -> None:
    assert sorted(split.train + split.holdout + split.dropped) == list(range(len(edges)))
    assert not ends(edges, split.train) & ends(edges, split.holdout)


def pools(count: int, size: int, seed: int = 0) -> list[Edge]:
    rng = random.Random(seed)
    return [
        Edge("dress" if pool % 2 else "shirt", *(f"{pool}-{i}" for i in rng.sample(range(size), 2)))
        for pool in range(count)
        for _ in range(size)
    ]


@pytest.mark.parametrize("seed", [0, 1])
def test_small_components_lose_nothing(seed: int) -> None:
    edges = pools(60, 20)
    split = carve(edges, 0.1, seed)
    check(edges, split)
    assert not split.dropped
    for category in ("dress", "shirt"):
        share = sum(edges[row].category == category for row in split.holdout) / 600
        assert 0.05 <= share <= 0.1


def test_giant_component_is_cut() -> None:
    rng = random.Random(1)
    edges = [Edge("dress", f"{i}", f"{max(0, i - rng.randint(1, 8))}") for i in range(1, 2000)]
    split = carve(edges, 0.2, 0)
    check(edges, split)
    assert 0.15 * len(edges) <= len(split.holdout) <= 0.25 * len(edges)
    assert len(split.dropped) < 0.1 * len(edges)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_giant_component_and_small_ones_each_give_their_share(seed: int) -> None:
    rng = random.Random(1)
    giant = [Edge("dress", f"{i}", f"{max(0, i - rng.randint(1, 8))}") for i in range(1, 2000)]
    small = [Edge("dress", f"s{i}", f"t{i}") for i in range(400)]
    split = carve(giant + small, 0.2, seed)
    check(giant + small, split)
    inside = sum(row < len(giant) for row in split.holdout)
    shares = [inside, len(split.holdout) - inside]
    assert shares == [pytest.approx(0.2 * 1999, rel=0.05), pytest.approx(0.2 * 400, rel=0.25)]
    assert split.holdout != carve(giant + small, 0.2, seed + 1).holdout


def stars(sizes: list[int], category: str = "dress") -> list[Edge]:
    """A component a reference, each with so many targets."""
    return [
        Edge(category, f"{category}{star}", f"{category}{star}-{target}")
        for star, size in enumerate(sizes)
        for target in range(size)
    ]


@pytest.mark.parametrize("count", range(2, 10))
@pytest.mark.parametrize("size", [1, 2, 30])
def test_of_a_few_components_alike_one_goes_whole(count: int, size: int) -> None:
    cliques = [
        Edge("dress", f"{group}-{left}", f"{group}-{right}")
        for group in range(count)
        for left, right in itertools.permutations(range(6), 2)
    ]
    # Those of another category are too many for it to matter there.
    for edges in (cliques, stars([size] * count), stars([size] * count) + stars([1] * 999, "top")):
        own = [row for row, edge in enumerate(edges) if edge.category == "dress"]
        split = carve(edges, 0.1, 0)
        check(edges, split)
        assert not split.dropped
        assert len({*own} & {*split.holdout}) == len(own) // count


def test_of_a_few_components_nearly_alike_the_smallest_goes_whole() -> None:
    edges = stars([60, 40, 30, 2])
    split = carve(edges, 0.1, 0)
    check(edges, split)
    assert not split.dropped
    assert len(split.holdout) == 32


def test_images_shared_across_categories_stay_on_one_side() -> None:
    edges = pools(30, 10) + [Edge("toptee", f"{p}-0", f"{p}-1") for p in range(30)]
    check(edges, carve(edges, 0.3, 0))


@pytest.mark.parametrize("seed", range(8))
def test_a_category_is_not_given_away_for_a_query_of_another(seed: int) -> None:
    giant = [Edge("shirt", f"{row}", f"{row + 1}") for row in range(1000)]
    edges = [*giant, *stars([1] * 9), Edge("dress", "3", "7"), Edge("dress", "30", "70")]
    split = carve(edges, 0.5, seed)
    check(edges, split)
    assert sum(row < 1000 for row in split.train) > 450


def test_seed_decides() -> None:
    edges = pools(40, 10)
    assert carve(edges, 0.2, 3) == carve(edges, 0.2, 3)
    assert carve(edges, 0.2, 3) != carve(edges, 0.2, 4)


def test_query_of_one_image_and_single_query() -> None:
    edges = [Edge("dress", "a", "a"), Edge("dress", "b", "c")]
    check(edges, carve(edges, 0.4, 0))
    chain = [Edge("dress", f"{i}", f"{i + 1}") for i in range(4)]
    assert len(carve(chain, 0.1, 0).holdout) == 1
