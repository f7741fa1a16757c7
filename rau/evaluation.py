"""Queries of one protocol as rows of the feature matrices, ranked by any method.

A method turns features into query and gallery vectors. The head is one, the untrained baselines
are others; all pass through the same code.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from rau.errors import UserError
from rau.features import Features
from rau.joins import Join, query_texts
from rau.ranking import Ranking, padded, rank

Row = Mapping[str, Any]
BLOCK = 4096


class Method(Protocol):
    """Turns raw features into vectors whose cosine ranks, and says how unsure it is."""

    def encode_query(self, reference: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """(B, d_image) and (B, d_text) to (B, d) and (B,)."""
        ...

    def encode_gallery(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, d_image) to (B, d) and (B,)."""
        ...


@dataclass(frozen=True)
class FeatureSet:
    """Image and text features: their names, and their matrices once on the device, as stored."""

    images: Features
    texts: Features
    image_matrix: Tensor
    text_matrix: Tensor

    @classmethod
    def on(cls, device: torch.device, images: Features, texts: Features) -> Self:
        """Put both matrices on the device."""
        return cls(
            images,
            texts,
            torch.tensor(images.matrix, device=device),
            torch.tensor(texts.matrix, device=device),
        )

    @property
    def device(self) -> torch.device:
        """Where the matrices are."""
        return self.image_matrix.device

    def image_rows(self, rows: Tensor) -> Tensor:
        """Features (N, d_image) of image rows, float32 on the device."""
        return self.image_matrix[rows].float()

    def text_rows(self, rows: Tensor) -> Tensor:
        """Features (N, d_text) of text rows, float32 on the device."""
        return self.text_matrix[rows].float()


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
    target_ids: list[str]
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
        """Rows whose reference and target are there; the others count as misses, (R,)."""
        return (self.reference >= 0) & (self.target >= 0)


def build_task(
    category: str,
    queries: Sequence[Row],
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
        UserError: when no image of the gallery is there, a target is not in the gallery's list or
            is removed with the reference, or a text has no feature.
    """
    listed = sorted(set(gallery_ids))
    image_row = {name: row for row, name in enumerate(features.images.names)}
    present = [name for name in listed if name in image_row]
    place = {name: index for index, name in enumerate(present)}
    known = set(listed)
    if not present:
        raise UserError(f"no image of the gallery of {category} is there; complete the images")
    for query in queries:
        if remove_reference and query["target_id"] == query["reference_id"]:
            raise UserError(
                f"the target of {query['query_id']} is its own reference, which this protocol "
                "removes; mend the query or evaluate with the reference kept"
            )
        if query["target_id"] is not None and query["target_id"] not in known:
            raise UserError(
                f"target {query['target_id']} of {query['query_id']} is not in its gallery; "
                "mend the split files"
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


def _row_texts(captions: list[str], join: Join) -> list[tuple[str, ...]]:
    texts = query_texts(captions, join)
    return [(text,) for text in texts] if join == "separate" else [tuple(texts)]


def _relevant(queries: Sequence[Row], place: Mapping[str, int]) -> NDArray[np.int64] | None:
    if any(query["relevant"] is None for query in queries):
        return None
    return padded([[place[i] for i in query["relevant"] if i in place] for query in queries])


def _subset(queries: Sequence[Row], place: Mapping[str, int]) -> NDArray[np.int64] | None:
    if any(query["members"] is None for query in queries):
        return None
    return padded([[place.get(member, -1) for member in query["members"]] for query in queries])


@dataclass(frozen=True)
class Ranked:
    """What a method did on a task: the ranking, and how unsure it is of each row's query and
    target, (R,) each."""

    ranking: Ranking
    uncertainty: NDArray[np.float32]
    target_uncertainty: NDArray[np.float32]


def run(task: Task, method: Method, features: FeatureSet, top_k: int) -> Ranked:
    """Rank every row of a task."""
    gallery_rows = torch.from_numpy(task.gallery).to(features.device)
    images = [
        method.encode_gallery(features.image_rows(gallery_rows[block]))
        for block in _slices(len(gallery_rows))
    ]
    gallery, spread = (torch.cat(values) for values in zip(*images, strict=True))
    pairs = [_queries(task, method, features, rows) for rows in _slices(len(task.query_ids))]
    queries = torch.cat([vectors for vectors, _ in pairs])
    uncertainty = torch.cat([values for _, values in pairs])
    # A row without its reference or target counts as a miss, whatever its list looks like.
    target = np.where(task.usable, task.target, -1)
    ranking = rank(
        queries,
        gallery,
        torch.from_numpy(target).to(features.device),
        torch.from_numpy(task.removed).to(features.device),
        top_k,
        None if task.relevant is None else torch.from_numpy(task.relevant).to(features.device),
        None if task.subset is None else torch.from_numpy(task.subset).to(features.device),
    )
    own_spread = spread.float().cpu().numpy()[np.maximum(task.target, 0)]
    return Ranked(ranking, uncertainty.float().cpu().numpy(), own_spread)


def _slices(count: int) -> list[slice]:
    return [slice(start, start + BLOCK) for start in range(0, count, BLOCK)]


def _queries(
    task: Task, method: Method, features: FeatureSet, rows: slice
) -> tuple[Tensor, Tensor]:
    """Query vectors (B, d), the normalised mean over orders, and uncertainty (B,)."""
    reference = torch.from_numpy(np.maximum(task.reference[rows], 0)).to(features.device)
    text = torch.from_numpy(task.text[rows]).to(features.device)
    orders = [
        method.encode_query(features.image_rows(reference), features.text_rows(order))
        for order in text.unbind(1)
    ]
    vectors = torch.stack([F.normalize(vector, dim=-1) for vector, _ in orders]).mean(0)
    return F.normalize(vectors, dim=-1), torch.stack([value for _, value in orders]).mean(0)
