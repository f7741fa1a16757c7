"""A holdout carved from the train queries by image, so that no image is on both sides.

Queries are edges between their reference and their target. Whole connected components go to the
holdout; where one component is most of the graph, a region is grown inside it and the queries that
cross its border are dropped, and counted.
"""

import heapq
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Edge:
    """What the split needs to know of a query."""

    category: str
    reference: str
    target: str


@dataclass(frozen=True)
class Split:
    """Row numbers of the queries on either side, ascending, and of those that neither may have."""

    train: list[int]
    holdout: list[int]
    dropped: list[int]


Graph = dict[str, list[int]]


def _graph(edges: Sequence[Edge]) -> Graph:
    graph: Graph = defaultdict(list)
    for row, edge in enumerate(edges):
        graph[edge.reference].append(row)
        if edge.target != edge.reference:
            graph[edge.target].append(row)
    return graph


def _neighbours(node: str, edges: Sequence[Edge], graph: Graph) -> list[str]:
    ends = (
        edges[row].target if edges[row].reference == node else edges[row].reference
        for row in graph[node]
    )
    return [end for end in ends if end != node]


def _components(edges: Sequence[Edge], graph: Graph) -> list[set[str]]:
    seen: set[str] = set()
    components = []
    for start in sorted(graph):
        if start in seen:
            continue
        component = {start}
        stack = [start]
        while stack:
            for node in _neighbours(stack.pop(), edges, graph):
                if node not in component:
                    component.add(node)
                    stack.append(node)
        seen |= component
        components.append(component)
    return components


def _grow(
    start: str, category: str, need: int, edges: Sequence[Edge], graph: Graph, free: set[str]
) -> set[str]:
    """Grow a region of `free` nodes until `need` queries of the category lie within it.

    The next node is the one with the largest share of its queries already inside: the border,
    and with it the loss, stays short.
    """
    region: set[str] = set()
    inside = 0
    links: dict[str, int] = defaultdict(int)
    heap = [(0.0, start)]
    while heap and inside < need:
        _, node = heapq.heappop(heap)
        if node in region:
            continue
        region.add(node)
        for row in graph[node]:
            edge = edges[row]
            if edge.reference in region and edge.target in region:
                inside += edge.category == category
        for other in _neighbours(node, edges, graph):
            if other in free and other not in region:
                links[other] += 1
                heapq.heappush(heap, (-links[other] / len(graph[other]), other))
    return region


def carve(edges: Sequence[Edge], share: float, seed: int) -> Split:
    """Choose about `share` of each category's queries.

    Args:
        edges: the train queries, in the order of their rows.
        share: of the queries, above 0 and below 1.
        seed: of the choice.

    Returns:
        A split in which no image of a holdout query occurs in a train query.
    """
    graph = _graph(edges)
    components = _components(edges, graph)
    random.Random(seed).shuffle(components)
    chosen: set[str] = set()
    for category in sorted({edge.category for edge in edges}):
        quota = max(1, round(share * sum(edge.category == category for edge in edges)))
        _choose(category, quota, edges, graph, components, chosen)
    sides: tuple[list[int], list[int], list[int]] = ([], [], [])
    for row, edge in enumerate(edges):
        sides[(edge.reference in chosen) + (edge.target in chosen)].append(row)
    train, dropped, holdout = sides
    return Split(train, holdout, dropped)


def _choose(
    category: str,
    quota: int,
    edges: Sequence[Edge],
    graph: Graph,
    components: Sequence[set[str]],
    chosen: set[str],
) -> None:
    """Add nodes to `chosen` until about `quota` queries of the category lie within."""

    def count(nodes: set[str]) -> int:
        rows = {row for node in nodes for row in graph[node]}
        return sum(
            edges[row].category == category
            and edges[row].reference in nodes
            and edges[row].target in nodes
            for row in rows
        )

    need = quota - count(chosen)
    sizes = [(count(component - chosen), component) for component in components]
    for size, component in sizes:
        if 0 < size <= need and not component & chosen:
            chosen |= component
            need -= size
    if need <= quota // 2:
        return
    for size, component in sorted(sizes, key=lambda pair: -pair[0]):
        if need <= 0 or size == 0:
            return
        free = component - chosen
        if free:
            region = _grow(sorted(free)[0], category, need, edges, graph, free)
            need -= count(region)
            chosen |= region
