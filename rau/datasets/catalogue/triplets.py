"""Queries drawn from the differences between products of one category and split.

Products are put into pools of near ones, and reference and target share a pool: a holdout that is
carved by image then follows the pools and loses few queries. Pools differ in which attributes
vary within them.
"""

import hashlib
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from rau.datasets.catalogue.attributes import ALL, Attribute
from rau.datasets.catalogue.captions import Caption, caption, changes
from rau.datasets.catalogue.products import Products
from rau.datasets.catalogue.relevance import answers, distance
from rau.params import CatalogueParams
from rau.progress import tqdm

SPLITS = ("train", "val")
# Products of a pool: a twentieth of their part of the catalogue, within these limits.
POOLS, SMALLEST, LARGEST = 20, 12, 40
NEAR, MOST_CHANGES = 2, 3
# A query is worth asking where few products answer it, in number and as a share.
MAX_ANSWERS, MAX_SHARE = 100, 1 / 3
ATTEMPTS = 3
# Queries a product, and in all, where the parameters do not say.
DEFAULT = {"train": (3, 30_000), "val": (3, 3_000)}


@dataclass(frozen=True)
class Triplet:
    """A query: reference, target and all answers as rows of the products."""

    reference: int
    target: int
    caption: Caption
    answers: NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """The products of one category and split, as rows of all products, and the queries drawn.

    `asked` is how many queries were to be drawn.
    """

    category: str
    split: str
    rows: NDArray[np.int64]
    asked: int
    triplets: list[Triplet]


def in_val(products: Products, share: float, seed: int) -> NDArray[np.bool_]:
    """Which products are of val, (P,): of every category the same share.

    Chosen by a digest of the id: most products stay on their side when others come and go.
    """
    of_category: dict[str, list[tuple[bytes, int]]] = defaultdict(list)
    for row, (name, category) in enumerate(zip(products.ids, products.categories, strict=True)):
        digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        of_category[category].append((digest, row))
    val = np.zeros(len(products), np.bool_)
    for members in of_category.values():
        val[[row for _, row in sorted(members)[: round(share * len(members))]]] = True
    return val


def draw(products: Products, val: NDArray[np.bool_], params: CatalogueParams) -> list[Part]:
    """Draw queries of every category; the same seed draws the same.

    Args:
        val: which products are of val, (P,).
    """
    categories = np.array(products.categories)
    parts = []
    for split, side in zip(SPLITS, (~val, val), strict=True):
        each, most = DEFAULT[split]
        asked = params.train_queries if split == "train" else params.val_queries
        total = min(each * int(side.sum()), most) if asked is None else asked
        rows = {str(c): np.flatnonzero(side & (categories == c)) for c in np.unique(categories)}
        with tqdm(total=total, desc=f"draw {split} queries", unit="query") as bar:
            for category, own in rows.items():
                count = round(total * len(own) / max(1, side.sum()))
                near = [one.take(own) for one in products.attributes]
                seed = [params.seed, SPLITS.index(split), zlib.crc32(category.encode())]
                found = []
                for triplet in _drawn(near, len(own), count, seed):
                    found.append(_of_all(triplet, own))
                    bar.update()
                parts.append(Part(category, split, own, count, found))
    return parts


def _of_all(triplet: Triplet, rows: NDArray[np.int64]) -> Triplet:
    """A triplet of a part as one of all products."""
    reference, target = (int(rows[row]) for row in (triplet.reference, triplet.target))
    return Triplet(reference, target, triplet.caption, rows[triplet.answers])


def _drawn(
    attributes: Sequence[Attribute], products: int, count: int, seed: Sequence[int]
) -> Iterator[Triplet]:
    """Up to `count` queries, evenly from all pools as long as they have any."""
    if not attributes or products < 2:
        return
    pools = _pools(attributes, products, np.random.default_rng([*seed, 0]))
    streams = [
        _of_pool(attributes, products, pool, np.random.default_rng([*seed, 1, number]))
        for number, pool in enumerate(pools)
    ]
    while streams and count > 0:
        share, left = divmod(count, len(streams))
        for number, stream in enumerate([*streams]):
            asked = share + (number < left)
            taken = list(islice(stream, asked))
            yield from taken
            count -= len(taken)
            if len(taken) < asked:
                streams.remove(stream)


def _pools(
    attributes: Sequence[Attribute], products: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Products in pools: random groups, each sorted by its own order of the attributes and cut."""
    size = min(max(products // POOLS, SMALLEST), LARGEST)
    keys = [one.sort_key() for one in attributes]
    groups = np.array_split(
        rng.permutation(products), max(1, min(len(keys), products // (2 * size)))
    )
    pools = []
    for group in groups:
        order = rng.permutation(len(keys))
        ranked = group[np.lexsort([keys[place][group] for place in order])]
        pools += np.array_split(ranked, max(1, round(len(group) / size)))
    return pools


def _of_pool(
    attributes: Sequence[Attribute],
    products: int,
    pool: NDArray[np.int64],
    rng: np.random.Generator,
) -> Iterator[Triplet]:
    """Queries between products of a pool, nearest ones first, each pair once."""
    near = [one.take(pool) for one in attributes]
    away = np.stack([distance(near, row, ALL) for row in range(len(pool))])
    pairs = np.argwhere((away >= 1) & (away <= MOST_CHANGES))
    if not len(pairs):
        pairs = np.argwhere(away >= 1)
    pairs = rng.permutation(pairs)
    far = np.maximum(away[pairs[:, 0], pairs[:, 1]], NEAR)
    most = min(MAX_ANSWERS, max(1, int(MAX_SHARE * products)))
    for reference, target in pool[pairs[np.argsort(far, kind="stable")]].tolist():
        different = changes(attributes, reference, target)
        for _ in range(ATTEMPTS if different else 0):
            said = caption(attributes, different, reference, target, rng)
            found = answers(attributes, reference, target, said.demands)
            if len(found) <= most:
                yield Triplet(reference, target, said, found)
                break
