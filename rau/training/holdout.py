"""A holdout carved from the train queries by image, so that no image is on both sides.

Queries are edges between their reference and their target. Whole connected components go to the
holdout. Where most images hang together in one, the small ones are of other kinds: each component
with more queries than the holdout then gives its share of them. A region is grown inside it, and
the queries that cross the region's border are dropped, and counted. Of several alike, one goes
whole though it is more than asked for: to cut them all would drop most of their queries.
"""

import heapq
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

# Of the queries in large components, the share of one that the others are small beside.
GIANT = 0.75


@dataclass(frozen=True)
class Edge:
    """What the split needs to know of a query."""

    category: str
    reference: str
    target: str


@dataclass(frozen=True)
class Split:
    """Rows of the queries of either side, ascending, and of those that neither side may have."""

    train: list[int]
    holdout: list[int]
    dropped: list[int]


Graph = dict[str, list[Edge]]


def _graph(edges: Sequence[Edge]) -> Graph:
    """The edges of each node."""
    graph: Graph = defaultdict(list)
    for edge in edges:
        for node in {edge.reference, edge.target}:
            graph[node].append(edge)
    return graph


def _neighbours(node: str, graph: Graph) -> list[str]:
    """The other end of each edge of a node."""
    ends = (edge.target if edge.reference == node else edge.reference for edge in graph[node])
    return [end for end in ends if end != node]


def _components(graph: Graph) -> list[set[str]]:
    left = set(graph)
    components = []
    for start in sorted(graph):
        if start not in left:
            continue
        component, stack = {start}, [start]
        while stack:
            new = set(_neighbours(stack.pop(), graph)) - component
            component |= new
            stack += new
        left -= component
        components.append(component)
    return components


def _within(component: set[str], graph: Graph) -> int:
    """Queries in a component, of all categories."""
    return sum(edge.reference == node for node in component for edge in graph[node])


def _grow(start: str, category: str, need: int, graph: Graph, free: set[str]) -> set[str]:
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
        inside += sum(
            edge.category == category and {edge.reference, edge.target} <= region
            for edge in graph[node]
        )
        for other in _neighbours(node, graph):
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
    rng = random.Random(seed)
    components = _components(graph)
    rng.shuffle(components)
    chosen: set[str] = set()
    for category in sorted({edge.category for edge in edges}):
        _choose(category, share, graph, components, chosen, rng)
    sides: tuple[list[int], list[int], list[int]] = ([], [], [])
    for row, edge in enumerate(edges):
        sides[(edge.reference in chosen) + (edge.target in chosen)].append(row)
    train, dropped, holdout = sides
    return Split(train, holdout, dropped)


def _choose(
    category: str,
    share: float,
    graph: Graph,
    components: Sequence[set[str]],
    chosen: set[str],
    rng: random.Random,
) -> None:
    """Add nodes to `chosen` until about `share` of the category's queries lie within."""

    def count(nodes: set[str]) -> int:
        """Queries of the category within `nodes`, each counted at its reference."""
        return sum(
            edge.category == category and edge.reference == node and edge.target in nodes
            for node in nodes
            for edge in graph[node]
        )

    sizes = [(count(component), component) for component in components]
    quota = max(1, round(share * sum(size for size, _ in sizes)))
    large = [size for size, _ in sizes if size > quota]
    giant = max(large, default=0) > GIANT * sum(large)
    for size, component in sizes:
        if giant and size > quota and (free := sorted(component - chosen)):
            need = max(1, round(share * size)) - count(component & chosen)
            chosen |= _grow(rng.choice(free), category, need, graph, set(free))
    need = quota - count(chosen)
    for size, component in sizes:
        # What another category has there counts too: most of its queries may hang on one of these.
        if size and _within(component, graph) <= need and not component & chosen:
            chosen |= component
            need -= size
    whole = [component for size, component in sizes if size and not component & chosen]
    if 2 * need > quota and whole:
        # By its images, for it may have many queries of other categories.
        chosen |= min(whole, key=len)
