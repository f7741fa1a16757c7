"""Submissions for CIRR's hidden split: what is written passes our own check, which can fail."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rau.datasets import cirr
from rau.errors import UserError
from rau.evaluation import submissions
from rau.evaluation.submissions import Truth
from rau.features.table import Features
from rau.models.baselines import WeightedSum
from rau.retrieval.feature_set import FeatureSet
from rau.schemas import GalleryRow, QueryRow
from tests.places import SHARED

REAL = SHARED / "cirr"
NAMES = [f"test1-{i}-0-img0" for i in range(60)]


def features(names: list[str], texts: list[str]) -> FeatureSet:
    rng = np.random.default_rng(0)
    images, words = (
        Features(n, rng.standard_normal((len(n), 8)).astype(np.float32), {}) for n in (names, texts)
    )
    return FeatureSet.on(torch.device("cpu"), images, words)


def small() -> Truth:
    queries: list[QueryRow] = [
        {
            "query_id": str(i),
            "split": "test1",
            "category": "all",
            "reference_id": NAMES[i],
            "target_id": None,
            "captions": ["turn it"],
            "members": NAMES[i + 1 : i + 6],
            "relevant": None,
        }
        for i in range(5)
    ]
    rows: list[GalleryRow] = [
        {"gallery": "test1", "category": "all", "image_id": name} for name in NAMES
    ]
    found = submissions.truth(queries, rows)
    assert found is not None
    return found


def test_written_files_pass(tmp_path: Path) -> None:
    hidden = small()
    made = features(NAMES, ["turn it"])
    documents = submissions.build(hidden, WeightedSum(0.0), made)
    paths = submissions.write(tmp_path, documents, hidden)
    assert [path.name for path in paths] == [
        "cirr_test1_recall.json",
        "cirr_test1_recall_subset.json",
    ]
    recall, subset = (json.loads(path.read_text()) for path in paths)
    assert (recall["version"], recall["metric"]) == ("rc2", "recall")
    unit = made.image_matrix / made.image_matrix.norm(dim=1, keepdim=True)
    for query in hidden.queries:
        row = NAMES.index(query["reference_id"])
        order = [NAMES[i] for i in (unit @ unit[row]).argsort(descending=True) if i != row]
        assert recall[query["query_id"]] == order[:50]
        assert subset[query["query_id"]] == [n for n in order if n in (query["members"] or ())][:3]


def test_missing_images_are_refused() -> None:
    with pytest.raises(UserError, match=r"1 of 60 test1 images are missing \(test1-0-0-img0\)"):
        submissions.build(small(), WeightedSum(0.0), features(NAMES[1:], ["turn it"]))


BREAKS: list[tuple[Callable[[Any, Truth], Any], str]] = [
    (lambda d, t: d.update(metric="recall_subset"), "begins with"),
    (lambda d, t: d.update(version="rc1"), "begins with"),
    (lambda d, t: d.pop("0"), "1 pair ids are missing"),
    (lambda d, t: d.update({"99": d["0"]}), "not of test1: 99"),
    (lambda d, t: d["0"].pop(), "not 50 different names"),
    (lambda d, t: d["0"].__setitem__(0, d["0"][1]), "not 50 different names"),
    (lambda d, t: d["0"].__setitem__(0, NAMES[0]), "its reference is among the names"),
    (lambda d, t: d["0"].__setitem__(0, "dev-1"), "'dev-1' is not among"),
]


@pytest.mark.parametrize(("damage", "said"), BREAKS)
def test_damage_is_found(damage: Callable[[Any, Truth], Any], said: str) -> None:
    hidden = small()
    document = submissions.build(hidden, WeightedSum(0.0), features(NAMES, ["turn it"]))["recall"]
    submissions.check(document, "recall", hidden)
    damage(document, hidden)
    with pytest.raises(UserError, match=said):
        submissions.check(document, "recall", hidden)


def test_subset_names_come_from_the_set() -> None:
    hidden = small()
    documents = submissions.build(hidden, WeightedSum(0.0), features(NAMES, ["turn it"]))
    document: Any = documents["recall_subset"]
    document["0"][0] = NAMES[40]
    with pytest.raises(UserError, match=r"pair 0: .*not among the images"):
        submissions.check(document, "recall_subset", hidden)


def test_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = small()
    documents = submissions.build(hidden, WeightedSum(0.0), features(NAMES, ["turn it"]))
    monkeypatch.setattr(submissions, "MAX_BYTES", 100)
    with pytest.raises(UserError, match="larger than 100 bytes"):
        submissions.write(tmp_path, documents, hidden)
    assert not list(tmp_path.iterdir())


def test_no_hidden_split_no_submission() -> None:
    val: QueryRow = {**small().queries[0], "split": "val", "members": None}
    assert submissions.truth([val], []) is None


@pytest.mark.skipif(not REAL.is_dir(), reason="CIRR's annotations are missing")
def test_real_split(tmp_path: Path) -> None:
    annotations = cirr.read_annotations(REAL)
    rows: list[GalleryRow] = [
        {"gallery": "test1", "category": "all", "image_id": i}
        for i in annotations.galleries["test1"]["all"]
    ]
    hidden = submissions.truth(annotations.queries, rows)
    assert hidden is not None
    texts = sorted({query["captions"][0].strip() for query in hidden.queries})
    made = features(sorted(hidden.gallery), texts)
    paths = submissions.write(tmp_path, submissions.build(hidden, WeightedSum(0.5), made), hidden)
    for path in paths:
        assert len(json.loads(path.read_text())) == 4148 + 2
        assert path.stat().st_size <= 5_000_000
