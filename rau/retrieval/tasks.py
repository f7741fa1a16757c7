"""Queries of one protocol as rows of the feature matrices, ranked by any method.

A method turns features into query and gallery vectors. The head is one, the untrained baselines
are others; all pass through the same code.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from rau.datasets.captions import Join, query_texts, with_concept
from rau.errors import UserError
from rau.params import EvaluateParams
from rau.retrieval import protocols
from rau.retrieval.composed import Composed
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.metrics import Values, per_query
from rau.retrieval.ranking import Ranking, rank
from rau.schemas import GalleryRow, QueryRow

BLOCK = 4096
# Vectors (N, d) and their uncertainty (N,).
Encoded = tuple[Tensor, Tensor]


class Method(Protocol):
    """Turns raw features into vectors whose cosine ranks, and gives their uncertainty."""

    def encode_query(self, reference: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """(B, d_image) and (B, d_text) to (B, d) and (B,)."""
        ...

    def encode_gallery(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, d_image) to (B, d) and (B,)."""
        ...


@dataclass(frozen=True)
class Task:
    """One category under one protocol: R ranked rows against a gallery of G images.

    Attributes:
        query_ids: of each row; a query has two rows under the join `separate`.
        clusters: number of the query that each row belongs to, (R,).
        texts: what each row says, one string or both orders.
        reference: row of the image features, (R,); -1 where the image is missing.
        text: rows of the text features, (R, orders).
        gallery: rows of the image features, (G,).
        gallery_ids: image ids, (G,), ascending.
        target: place in the gallery, (R,); -1 where the image is missing.
        removed: place of the reference to take out, (R,); -1 for none.
        relevant: places of all true answers, (R, m), -1 pads; None where the data set does not
            know them.
        subset: places of the other images of the query's set, (R, m), -1 for one that is missing;
            None where the data set has no such sets.
    """

    category: str
    query_ids: list[str]
    reference_ids: list[str]
    target_ids: list[str | None]
    clusters: NDArray[np.int64]
    texts: list[tuple[str, ...]]
    reference: NDArray[np.int64]
    text: NDArray[np.int64]
    gallery: NDArray[np.int64]
    gallery_ids: list[str]
    target: NDArray[np.int64]
    removed: NDArray[np.int64]
    relevant: NDArray[np.int64] | None
    subset: NDArray[np.int64] | None

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Valid rows, with reference and target available; others count as misses, (R,)."""
        return (self.reference >= 0) & (self.target >= 0)

    @property
    def ranked_target(self) -> NDArray[np.int64]:
        """Place of the target that is ranked, (R,); -1 for a miss.

        A row without its reference or target counts as a miss, whatever its list looks like, and so
        does one whose target is removed, being its reference.
        """
        return np.where(self.usable & (self.target != self.removed), self.target, -1)


def build_task(
    category: str,
    queries: Sequence[QueryRow],
    gallery_ids: Iterable[str],
    join: Join,
    remove_reference: bool,
    features: FeatureSet,
) -> Task:
    """Look up rows and places for the queries of one category.

    Args:
        queries: rows of the queries table; a hidden target (None) is a missing one.
        gallery_ids: the gallery; images that have no feature stay out of it.

    Raises:
        UserError: when no image of the gallery is available, a target is not listed in it, or a
            text has no feature.
    """
    listed = sorted(set(gallery_ids))
    image_row = features.images.index
    present = [name for name in listed if name in image_row]
    place = {name: index for index, name in enumerate(present)}
    known = set(listed)
    if not present:
        raise UserError(f"no image of the gallery of {category} is available; complete the images")
    for query in queries:
        if query["target_id"] is not None and query["target_id"] not in known:
            raise UserError(
                f"target {query['target_id']} of {query['query_id']} is not in its gallery; "
                "fix the split files"
            )
    per_query = [_row_texts(query["captions"], join) for query in queries]
    owner = [n for n, rows in enumerate(per_query) for _ in rows]
    texts = [row for rows in per_query for row in rows]
    owned = [queries[n] for n in owner]
    flat = features.texts.rows((text for row in texts for text in row), "texts")
    references = [query["reference_id"] for query in owned]
    return Task(
        category=category,
        query_ids=[query["query_id"] for query in owned],
        reference_ids=references,
        target_ids=[query["target_id"] for query in owned],
        clusters=np.array(owner, dtype=np.int64),
        texts=texts,
        reference=np.array([image_row.get(r, -1) for r in references], dtype=np.int64),
        text=flat.reshape(len(texts), -1),
        gallery=np.array([image_row[name] for name in present], dtype=np.int64),
        gallery_ids=present,
        target=np.array([place.get(q["target_id"] or "", -1) for q in owned], dtype=np.int64),
        removed=np.array(
            [place.get(r, -1) if remove_reference else -1 for r in references], dtype=np.int64
        ),
        relevant=_relevant(owned, place),
        subset=_subset(owned, place),
    )


def protocol_tasks(
    protocol: protocols.Protocol,
    queries: Sequence[QueryRow],
    galleries: Sequence[GalleryRow],
    features: FeatureSet,
) -> list[Task]:
    """The val queries by category."""
    tasks = []
    for category in sorted({query["category"] for query in queries}):
        members = [
            row["image_id"]
            for row in galleries
            if (row["gallery"], row["category"]) == (protocol.gallery, category)
        ]
        own = [asked(query, protocol) for query in queries if query["category"] == category]
        removed = protocol.reference == "removed"
        tasks.append(build_task(category, own, members, protocol.join, removed, features))
    return tasks


def asked(query: QueryRow, protocol: protocols.Protocol) -> QueryRow:
    """A query as a protocol asks it.

    Raises:
        UserError: when it lacks the concept that the protocol puts before the caption.
    """
    if not protocol.concept:
        return query
    concept = query.get("concept")
    if concept is None:
        raise UserError(f"{query['query_id']} has no concept, which {protocol.name} asks for")
    return {**query, "captions": with_concept(query["captions"], concept)}


def _row_texts(captions: list[str], join: Join) -> list[tuple[str, ...]]:
    texts = query_texts(captions, join)
    return [(text,) for text in texts] if join == "separate" else [tuple(texts)]


def _relevant(queries: Sequence[QueryRow], place: Mapping[str, int]) -> NDArray[np.int64] | None:
    if any(query["relevant"] is None for query in queries):
        return None
    return padded([[place[i] for i in query["relevant"] or () if i in place] for query in queries])


def _subset(queries: Sequence[QueryRow], place: Mapping[str, int]) -> NDArray[np.int64] | None:
    if any(query["members"] is None for query in queries):
        return None
    return padded(
        [[place.get(member, -1) for member in query["members"] or ()] for query in queries]
    )


@dataclass(frozen=True)
class Ranked:
    """The result of a method on a task: the ranking, and the uncertainty of each row's query and
    target, (R,) each."""

    ranking: Ranking
    uncertainty: NDArray[np.float32]
    target_uncertainty: NDArray[np.float32]


def run(task: Task, method: Method, features: FeatureSet, top_k: int) -> Ranked:
    """Rank every row of a task."""
    return run_all([task], method, features, top_k)[0]


def run_all(
    tasks: Sequence[Task], method: Method, features: FeatureSet, top_k: int
) -> list[Ranked]:
    """Rank every row of several tasks; what they share is encoded once."""
    encoded = encode_all(tasks, method, features)
    return [_rank(*one, top_k) for one in zip(tasks, encoded, strict=True)]


def encode_all(
    tasks: Sequence[Task], method: Method, features: FeatureSet
) -> Iterator[tuple[Encoded, Encoded]]:
    """Vectors and uncertainty of the rows and of the gallery of each task, on the device.

    Those of the rows are (R, d), their orders' mean, and (R,); of the gallery (G, d) and (G,).
    """
    if isinstance(method, Composed):
        tasks, features = method.look_up(tasks, features)

    def encode_queries(pairs: Tensor) -> tuple[Tensor, Tensor]:
        reference, text = pairs >> 32, pairs & 0xFFFFFFFF
        vectors, uncertainty = method.encode_query(
            features.image_rows(reference), features.text_rows(text)
        )
        return F.normalize(vectors, dim=-1), uncertainty

    def encode_images(rows: Tensor) -> tuple[Tensor, Tensor]:
        return method.encode_gallery(features.image_rows(rows))

    # One number for reference and text of each row and order, (R, orders).
    pairs = [np.maximum(task.reference, 0)[:, None] << 32 | task.text for task in tasks]
    queries = _encode(pairs, encode_queries, features.device)
    galleries = _encode([task.gallery for task in tasks], encode_images, features.device)
    for (vectors, uncertainty), gallery in zip(queries, galleries, strict=True):
        yield (vectors.mean(1), uncertainty.mean(1)), gallery


def _encode(
    keys: Sequence[NDArray[np.int64]], work: Callable[[Tensor], Encoded], device: torch.device
) -> Iterator[Encoded]:
    """Vectors (*, d) and uncertainty (*) for each array of keys (*); each key is encoded once."""
    each, inverse = np.unique(np.concatenate([k.ravel() for k in keys]), return_inverse=True)
    blocks = [work(block) for block in torch.split(torch.from_numpy(each).to(device), BLOCK)]
    vectors, uncertainty = (torch.cat(values) for values in zip(*blocks, strict=True))
    places = torch.split(torch.from_numpy(inverse).to(device), [k.size for k in keys])
    for own, place in zip(keys, places, strict=True):
        rows = place.view(own.shape)
        yield vectors[rows], uncertainty[rows]


def _rank(task: Task, encoded: tuple[Encoded, Encoded], top_k: int) -> Ranked:
    queries, gallery = encoded

    def on_device(table: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(table).to(gallery[0].device)

    ranking = rank(
        queries[0],
        gallery[0],
        on_device(task.ranked_target),
        on_device(task.removed),
        top_k,
        None if task.relevant is None else on_device(task.relevant),
        None if task.subset is None else on_device(task.subset),
    )
    uncertainty, of_gallery = (u.float().cpu().numpy() for u in (queries[1], gallery[1]))
    return Ranked(ranking, uncertainty, of_gallery[np.maximum(task.target, 0)])


def measured(
    tasks: Sequence[Task], ranked: Sequence[Ranked], evaluate: EvaluateParams
) -> tuple[dict[str, Values], dict[str, NDArray[np.int64]]]:
    """Every metric of every row that counts, and the rows' queries, by category.

    Raises:
        UserError: when unusable queries are left out and none is left.
    """
    values: dict[str, Values] = {}
    clusters: dict[str, NDArray[np.int64]] = {}
    for task, result in zip(tasks, ranked, strict=True):
        kept = np.full(len(task.clusters), True)
        if evaluate.unusable == "leave_out":
            kept = task.usable
            if not kept.any():
                raise UserError(
                    f"no query of {task.category} has its images; complete the images or set "
                    "evaluate.unusable=miss"
                )
        whole = per_query(result.ranking, task.usable)
        values[task.category] = {name: value[kept] for name, value in whole.items()}
        clusters[task.category] = task.clusters[kept]
    return values, clusters


def padded(rows: Sequence[Sequence[int]], pad: int = -1) -> NDArray[np.int64]:
    """Lists of places of any lengths as a table (R, longest), `pad` at the ends of shorter ones."""
    width = max(map(len, rows), default=0)
    return np.array([[*row, *[pad] * (width - len(row))] for row in rows], np.int64).reshape(
        len(rows), width
    )
