"""Calibration of an index, from the answers to its catalogue's queries.

Only queries that the head was not trained on are used: those outside of the split `train` of the
current tables and parameters, since a head does not record the split that it was trained on.
Answers come from the index's own engine and default gallery, so that the calibration applies to
actual searches.
"""

import random
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from rau.errors import UserError
from rau.evaluation.calibration import FILE, LISTED, MIN_QUERIES, Calibration, Lists, fit
from rau.progress import tqdm
from rau.schemas import QueryRow
from rau.search.engines.engine import Found
from rau.search.scope import Scope, scope_of
from rau.search.searcher import Searcher

# More queries would change little.
MOST = 2000
_BATCH = 64


def calibrate(searcher: Searcher, queries: Sequence[QueryRow]) -> Calibration:
    """Fit the calibration of an index and write it to its folder.

    Args:
        queries: of any split; those of `train`, and those whose images are not in the index, are
            left out.

    Raises:
        UserError: if fewer than `MIN_QUERIES` remain.
    """
    place = searcher.index.place
    own = untrained(
        [
            query
            for query in queries
            if query["reference_id"] in place and query["target_id"] in place
        ],
        "have their images in the index",
    )
    own = random.Random(0).sample(own, min(MOST, len(own)))
    scores, right, sizes = [], [], []
    for query, found, size in _answers(searcher, own):
        wanted = {query["target_id"], *(query["relevant"] or ())}
        others = [row for row, name in enumerate(found.ids) if name != query["reference_id"]]
        kept = others[:LISTED]
        scores.append(found.scores[kept])
        right.append(np.array([found.ids[row] in wanted for row in kept], np.bool_))
        sizes.append(size)
    manifest = searcher.index.manifest
    lists = Lists.ragged(scores, right, sizes)
    made = fit(lists, manifest.model, manifest.source, manifest.engine)
    assert made is not None
    made.write(searcher.index.folder / FILE)
    return made


def untrained(queries: Sequence[QueryRow], there: str = "are known") -> Sequence[QueryRow]:
    """The queries that have a target other than their reference and are not of the split `train`.

    Args:
        there: describes the queries in the error message.

    Raises:
        UserError: if there are fewer than `MIN_QUERIES`.
    """
    found = [
        query
        for query in queries
        if query["split"] != "train" and query["target_id"] not in (None, query["reference_id"])
    ]
    if len(found) < MIN_QUERIES:
        raise UserError(
            f"only {len(found):,} queries outside the train split {there}; calibration needs at "
            f"least {MIN_QUERIES}"
        )
    return found


def _answers(
    searcher: Searcher, queries: Sequence[QueryRow]
) -> Iterator[tuple[QueryRow, Found, int]]:
    """Each query with its best answers, possibly including its reference, and its gallery's size.

    Queries are grouped by scope, since a batch has one scope.
    """
    alike: dict[Scope, list[QueryRow]] = {}
    for query in queries:
        scope = scope_of(searcher.index, references=[query["reference_id"]])
        alike.setdefault(scope, []).append(query)
    batches = [
        (scope, own[start : start + _BATCH])
        for scope, own in alike.items()
        for start in range(0, len(own), _BATCH)
    ]
    for scope, some in tqdm(batches, "calibrate", unit="batch"):
        vectors = _vectors(searcher, some).cpu().numpy()
        answers = searcher.index.engine.search(vectors, LISTED + 1, scope.condition)
        for query, found in zip(some, answers, strict=True):
            yield query, found, scope.searched.images


def _vectors(searcher: Searcher, queries: Sequence[QueryRow]) -> Tensor:
    """Vectors (Q, d) of queries, as by `Model.encode_query`, in one pass."""
    model = searcher.model
    references = torch.stack([searcher.index.feature(q["reference_id"]) for q in queries])
    return model.compose(references, [model.texts(q["captions"])[0] for q in queries])
