"""What an epoch draws: batches of every query once, and each of a query's caption forms in turn."""

from typing import Any

import numpy as np
import pytest
import torch

from rau.datasets.captions import all_texts, training_texts
from rau.features.table import Features
from rau.params import TrainParams
from rau.retrieval.feature_set import FeatureSet
from rau.training import triplets
from rau.training.sampler import BatchSampler
from tests.training.test_trainer import synthetic

EPOCHS = 60


def drawn(
    train: TrainParams, captions: list[str] | None = None
) -> tuple[triplets.Triplets, list[Any], FeatureSet]:
    """Train queries of made-up features, and the batches of `EPOCHS` epochs over them."""
    features, queries = synthetic()
    queries = [{**query, "captions": captions or query["captions"]} for query in queries]
    texts = sorted({text for query in queries for text in all_texts(query["captions"])})
    words = Features(texts, np.ones((len(texts), 16), np.float32), {})
    features = FeatureSet.on(torch.device("cpu"), features.images, words)
    rows = triplets.triplets_of(queries, features)
    sampler = BatchSampler(rows, train)
    return rows, [batch for epoch in range(EPOCHS) for batch in sampler.epoch(epoch)], features


@pytest.mark.parametrize("captions", [["colour 1", "now 1"], ["colour 1", ""]])
def test_every_form_of_a_caption_is_drawn_equally_often(captions: list[str]) -> None:
    rows, batches, features = drawn(TrainParams(batch_size=32), captions)
    counts = torch.zeros(len(features.texts.names))
    for batch in batches:
        counts += torch.bincount(batch.text, minlength=len(counts))
    found = {features.texts.names[i]: int(counts[i]) for i in counts.nonzero().flatten()}
    forms = training_texts(captions)
    total = EPOCHS * len(rows)
    assert sum(found.values()) == total
    expected = {form: forms.count(form) / len(forms) for form in forms}
    assert found.keys() == expected.keys()
    for form, share in expected.items():
        assert found[form] / total == pytest.approx(share, abs=0.02)


def test_a_query_changes_its_caption_from_epoch_to_epoch() -> None:
    rows, batches, _ = drawn(TrainParams(batch_size=32))
    seen: dict[int, set[int]] = {}
    for batch in batches:
        for query, text in zip(batch.query.tolist(), batch.text.tolist(), strict=True):
            seen.setdefault(query, set()).add(text)
    assert seen == {row: set(rows.texts[row].tolist()) for row in range(len(rows))}


def test_rows_of_a_batch_belong_to_its_queries() -> None:
    rows, batches, _ = drawn(TrainParams(batch_size=32))
    for batch in batches:
        assert torch.equal(batch.reference, rows.reference[batch.query])
        assert torch.equal(batch.target, rows.target[batch.query])


@pytest.mark.parametrize("kind", ["mixed", "category"])
def test_each_epoch_has_every_query_once_in_another_order(kind: Any) -> None:
    rows, batches, _ = drawn(TrainParams(batch_size=32, batches=kind))
    each = len(batches) // EPOCHS
    epochs = [
        torch.cat([batch.query for batch in batches[start : start + each]]).tolist()
        for start in range(0, len(batches), each)
    ]
    assert all(sorted(epoch) == list(range(len(rows))) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == EPOCHS
    categories = [set(rows.category[batch.query].tolist()) for batch in batches]
    assert (max(map(len, categories)) == 1) == (kind == "category")
