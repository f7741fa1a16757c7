"""A preview of a catalogue's queries: the use of its columns, and some queries of every kind."""

import random
from collections.abc import Sequence
from pathlib import Path

from rau.datasets.catalogue.reader import Catalogue
from rau.datasets.locate import Located
from rau.report.html import embed, jpeg, page_template
from rau.report.image_strips import COLUMNS, Strip, draw
from rau.schemas import QueryRow, ends

TEMPLATE = Path(__file__).with_name("triplets_page.html")


def render(catalogue: Catalogue, root: Path, count: int) -> str:
    """Render the page.

    Args:
        root: the catalogue's folder.
        count: maximum number of queries per kind.
    """
    kinds = catalogue.kinds()
    shown = {kind: _some(queries, count) for kind, queries in kinds.items()}
    needed = {i for own in shown.values() for query in own for i in _images(query)}
    places = catalogue.products.places
    files = Located(root, needed, lambda name: [places[name]])
    # A missing file is shown as a grey tile, like an unreadable one.
    paths = {name: path or root / places[name] for name, path in files.items()}
    return page_template(TEMPLATE).render(
        catalogue=catalogue,
        total={kind: len(queries) for kind, queries in kinds.items()},
        shown=shown,
        strip=lambda query: embed(jpeg(draw(_strip(query, paths)))),
    )


def _some(queries: Sequence[QueryRow], count: int) -> list[QueryRow]:
    """A sample of the queries, always the same."""
    chosen = random.Random(0).sample(range(len(queries)), min(count, len(queries)))
    return [queries[place] for place in sorted(chosen)]


def _images(query: QueryRow) -> list[str]:
    """The reference, the target and other correct answers, as many as fit in a row of a strip."""
    reference, target = ends(query)
    others = [name for name in query["relevant"] or () if name != target]
    return [reference, target, *others[: COLUMNS - 1]]


def _strip(query: QueryRow, paths: dict[str, Path]) -> Strip:
    reference, *ranked = [paths[name] for name in _images(query)]
    others = frozenset(range(1, len(ranked)))
    return Strip(reference, query["captions"][0], ranked, target_at=0, relevant_at=others)
