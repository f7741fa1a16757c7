"""An index's own calibration: its catalogue's queries, asked and looked up.

The queries are those that the head was not trained on: all but the split `train`, as today's tables
and parameters have it, since a head does not record the split that it was trained on. Answers are
those of the index's own engine in the index's own gallery, so that what is fitted is what is
searched.
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
from rau.search.searcher import Searcher

# More queries would say little more.
MOST = 2000
_BATCH = 64


def calibrate(searcher: Searcher, queries: Sequence[QueryRow]) -> Calibration:
    """Fit the calibration of an index and write it to its folder.

    Args:
        queries: of any split; those of `train`, and those whose pictures are not in the index, are
            left out.

    Raises:
        UserError: when fewer than `MIN_QUERIES` are left.
    """
    place = searcher.index.place
    own = untrained(
        [
            query
            for query in queries
            if query["reference_id"] in place and query["target_id"] in place
        ],
        "have their pictures in the index",
    )
    own = random.Random(0).sample(own, min(MOST, len(own)))
    scores, right = [], []
    for query, found in _answers(searcher, own):
        wanted = {query["target_id"], *(query["relevant"] or ())}
        others = [row for row, name in enumerate(found.ids) if name != query["reference_id"]]
        kept = others[:LISTED]
        scores.append(found.scores[kept])
        right.append(np.array([found.ids[row] in wanted for row in kept], np.bool_))
    sizes = [len(searcher.index) - 1] * len(scores)
    manifest = searcher.index.manifest
    lists = Lists.ragged(scores, right, sizes)
    made = fit(lists, manifest.model, manifest.source, manifest.engine)
    assert made is not None
    made.write(searcher.index.folder / FILE)
    return made


def untrained(queries: Sequence[QueryRow], there: str = "are known") -> Sequence[QueryRow]:
    """Those queries between two pictures that are not of the split `train`.

    Args:
        there: what they do, for the error.

    Raises:
        UserError: when they are fewer than `MIN_QUERIES`.
    """
    found = [
        query
        for query in queries
        if query["split"] != "train" and query["target_id"] not in (None, query["reference_id"])
    ]
    if len(found) < MIN_QUERIES:
        raise UserError(
            f"{len(found):,} queries that are not of train {there}; to calibrate it takes "
            f"{MIN_QUERIES}"
        )
    return found


def _answers(searcher: Searcher, queries: Sequence[QueryRow]) -> Iterator[tuple[QueryRow, Found]]:
    """Each query with its best answers."""
    for start in tqdm(range(0, len(queries), _BATCH), "calibrate", unit="batch"):
        some = queries[start : start + _BATCH]
        vectors = _vectors(searcher, some).cpu().numpy()
        yield from zip(some, searcher.index.engine.search(vectors, LISTED + 1), strict=True)


def _vectors(searcher: Searcher, queries: Sequence[QueryRow]) -> Tensor:
    """What `Model.encode_query` gives of each query, (Q, d), in one pass."""
    model = searcher.model
    references = torch.stack([searcher.index.feature(q["reference_id"]) for q in queries])
    return model.compose(references, [model.texts(q["captions"])[0] for q in queries])
