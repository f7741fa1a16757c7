"""Composed queries are ranked by the features of their pairs."""

import numpy as np
import pytest
import torch

from rau.errors import UserError
from rau.features.table import Features, pair_name
from rau.models.baselines import WeightedSum
from rau.retrieval.composed import Composed
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.tasks import Task, build_task, run_all
from rau.schemas import QueryRow

IMAGES = [f"i{n}" for n in range(12)]


def query(number: int, reference: str, target: str) -> QueryRow:
    return {
        "query_id": f"q{number}",
        "split": "val",
        "category": "dress",
        "reference_id": reference,
        "target_id": target,
        "captions": [f"is {number}", "is red"],
        "members": None,
        "relevant": None,
    }


# The reference of the last has no image.
QUERIES = [*(query(n, IMAGES[n], IMAGES[n + 1]) for n in range(8)), query(8, "lost", IMAGES[0])]


def synthetic() -> tuple[Task, FeatureSet]:
    rng = np.random.default_rng(0)
    texts = [text for n in range(9) for text in (f"Is {n} and is red", f"Is red and is {n}")]
    made = [
        Features(names, rng.standard_normal((len(names), 6)).astype(np.float32), {})
        for names in (IMAGES, texts)
    ]
    features = FeatureSet.on(torch.device("cpu"), *made)
    return build_task("dress", QUERIES, [*IMAGES, "lost"], "both", False, features), features


def pairs_of(task: Task, rng: np.random.Generator) -> Features:
    names = [
        pair_name(reference, text)
        for reference, texts in zip(task.reference_ids, task.texts, strict=True)
        for text in texts
        if reference != "lost"
    ]
    order = rng.permutation(len(names))
    matrix = rng.standard_normal((len(names), 6)).astype(np.float32)
    return Features([names[row] for row in order], matrix, {})


def test_every_row_is_ranked_by_its_own_pair() -> None:
    task, features = synthetic()
    pairs = pairs_of(task, np.random.default_rng(1))
    composed, plain = (
        run_all([task], method, features, 5)[0].ranking
        for method in (Composed(pairs), WeightedSum(1.0))
    )
    gallery = features.image_matrix[torch.from_numpy(task.gallery)]
    gallery = torch.nn.functional.normalize(gallery, dim=-1)
    for row in range(8):
        own = [pairs.matrix[pairs.index[pair_name(IMAGES[row], t)]] for t in task.texts[row]]
        unit = torch.nn.functional.normalize(torch.from_numpy(np.stack(own)), dim=-1)
        best = (gallery @ unit.mean(0)).argsort(descending=True)[:5]
        assert composed.top[row].tolist() == best.tolist()
    assert composed.target_rank is not None
    assert plain.target_rank is not None
    assert composed.target_rank[8] == plain.target_rank[8]  # A miss, as with every method.


def test_a_category_without_any_of_its_references_is_all_misses() -> None:
    task, features = synthetic()
    lost = build_task("shirt", QUERIES[-1:], [*IMAGES, "lost"], "both", False, features)
    pairs = pairs_of(task, np.random.default_rng(1))
    composed, plain = (
        run_all([task, lost], method, features, 5)[1].ranking.target_rank
        for method in (Composed(pairs), WeightedSum(1.0))
    )
    assert composed.tolist() == plain.tolist()


def test_a_pair_without_a_feature_is_named() -> None:
    task, features = synthetic()
    pairs = pairs_of(task, np.random.default_rng(1))
    fewer = Features(pairs.names[1:], pairs.matrix[1:], {})
    with pytest.raises(UserError, match=r"1 pairs have no feature.*pipeline\.features"):
        run_all([task], Composed(fewer), features, 5)
