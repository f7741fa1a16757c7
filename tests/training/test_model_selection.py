"""What is chosen on the holdout, against loops that try every choice by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rau.datasets.captions import all_texts, query_texts
from rau.features.table import Features
from rau.models.baselines import RIDGES, WEIGHTS, apply_map, fit_ridge
from rau.retrieval.feature_set import FeatureSet
from rau.training import model_selection, triplets
from tests.training.test_trainer import synthetic

Vector = NDArray[np.float32]


def unit(vector: Any) -> Vector:
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def recall_at_1(
    split: triplets.TrainSet, features: FeatureSet, weight: float, reference: str, join: str
) -> float:
    """Mean over categories of the share of rows whose target comes first, from the definitions."""
    image = dict(zip(features.images.names, map(unit, features.images.matrix), strict=True))
    text = dict(zip(features.texts.names, map(unit, features.texts.matrix), strict=True))
    means = []
    for category in sorted({query["category"] for query in split.holdout}):
        own = [query for query in split.holdout if query["category"] == category]
        named = {q[end] for q in own for end in ("reference_id", "target_id")}
        gallery = sorted({str(name) for name in named} | {*split.distractors[category]})
        hits = []
        for query in own:
            start = query["reference_id"]
            forms = query_texts(query["captions"], join)  # type: ignore[arg-type]
            vectors = [unit((1 - weight) * image[start] + weight * text[one]) for one in forms]
            shown = [one for one in gallery if reference == "kept" or one != start]
            for vector in vectors if join == "separate" else [np.mean(vectors, axis=0)]:
                first = max(shown, key=lambda one: float(vector @ image[one]))
                hits.append(first == query["target_id"])
        means.append(np.mean(hits))
    return float(np.mean(means)) * 100


def holdout(noise: float = 2.0) -> tuple[FeatureSet, triplets.TrainSet]:
    """The synthetic data's holdout, with texts that differ from form to form."""
    features, queries = synthetic()
    rng = np.random.default_rng(7)
    texts = features.texts.matrix + noise * rng.normal(size=features.texts.matrix.shape)
    blurred = Features(features.texts.names, texts.astype(np.float32), {})
    made = FeatureSet.on(torch.device("cpu"), features.images, blurred)
    return made, triplets.divide(queries, made, 0.4, 0)


@pytest.mark.parametrize("reference", ["kept", "removed"])
@pytest.mark.parametrize("join", ["forward", "both", "separate"])
def test_the_weight_is_the_best_under_its_own_protocol(reference: Any, join: Any) -> None:
    features, split = holdout()
    choice = (reference, join)
    weights = model_selection.choose_weights(split, features, "recall_at_1", None, [choice])
    scores = [recall_at_1(split, features, weight, reference, join) for weight in WEIGHTS]
    assert weights == {f"{reference}-{join}": WEIGHTS[int(np.argmax(scores))]}


def test_weights_are_chosen_for_every_protocol_each_for_itself() -> None:
    features, split = holdout()
    # Among so few images that either side can lead.
    split = replace(split, distractors={key: [] for key in split.distractors})
    weights = model_selection.choose_weights(split, features, "recall_at_1", None)
    assert weights.keys() == {
        f"{reference}-{join}"
        for reference in ("kept", "removed")
        for join in ("forward", "both", "separate")
    }
    for join in ("forward", "both", "separate"):
        # Where the reference stays in the gallery the caption must lead away from it.
        assert weights[f"kept-{join}"] > weights[f"removed-{join}"]
    assert len({weights[f"removed-{join}"] for join in ("forward", "both", "separate")}) > 1


def own_words(noise: float, width: int) -> tuple[FeatureSet, list[Any]]:
    """The synthetic data where every query has captions of its own, in another space."""
    features, queries = synthetic(d_text=width)
    rng = np.random.default_rng(7)
    colours = rng.normal(size=(10, width))
    queries = [
        {**query, "captions": [f"{number} {caption}" for caption in query["captions"]]}
        for number, query in enumerate(queries)
    ]
    texts = sorted({text for query in queries for text in all_texts(query["captions"])})
    rows = [colours[int(text[-1])] + noise * rng.normal(size=width) for text in texts]
    words = Features(texts, np.array(rows, np.float32), {})
    return FeatureSet.on(torch.device("cpu"), features.images, words), queries


@pytest.mark.parametrize(("noise", "width", "best"), [(0.5, 20, 0), (1.0, 60, 2), (0.5, 40, 3)])
def test_the_ridge_penalty_is_the_best_on_the_holdout(noise: float, width: int, best: int) -> None:
    features, queries = own_words(noise, width)
    split = triplets.divide(queries, features, 0.4, 0)
    rows = triplets.triplets_of(split.train, features)
    tasks = triplets.holdout_tasks(split, features, "forward", False)
    found = model_selection.fit_text_map(rows, tasks, features, "recall_at_1")
    text, target = features.text_rows(rows.texts[:, 0]), features.image_rows(rows.target)
    maps = [fit_ridge(text, target, ridge) for ridge in RIDGES]
    scores = []
    for one in maps:
        mapped = Features(features.texts.names, apply_map(one, features.text_matrix).numpy(), {})
        moved = FeatureSet.on(torch.device("cpu"), features.images, mapped)
        scores.append(recall_at_1(split, moved, 1.0, "kept", "forward"))
    assert int(np.argmax(scores)) == best
    assert found is not None
    assert torch.equal(found, maps[best])


def test_a_shared_space_needs_no_map() -> None:
    features, queries = synthetic()
    rows = triplets.triplets_of(queries, features)
    assert model_selection.fit_text_map(rows, [], features, "recall_at_1") is None
