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
from rau.evaluation import cirr_submission, submissions
from rau.evaluation.hidden_split import HiddenSplit
from rau.features.table import Features
from rau.models.baselines import WeightedSum
from rau.retrieval.feature_set import FeatureSet
from rau.schemas import GalleryRow, QueryRow
from tests.places import SHARED, needs

REAL = SHARED / "cirr"
RECALL, SUBSET = "cirr_test1_recall.json", "cirr_test1_recall_subset.json"
NAMES = [f"test1-{i}-0-img0" for i in range(60)]


def features(names: list[str], texts: list[str]) -> FeatureSet:
    rng = np.random.default_rng(0)
    images, words = (
        Features(n, rng.standard_normal((len(n), 8)).astype(np.float32), {}) for n in (names, texts)
    )
    return FeatureSet.on(torch.device("cpu"), images, words)


def small() -> HiddenSplit:
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
    return split(queries, rows)


def split(queries: list[QueryRow], rows: list[GalleryRow]) -> HiddenSplit:
    found = HiddenSplit.of("test1", "test1", queries, rows)
    assert found is not None
    return found


def write(folder: Path, documents: dict[str, Any], hidden: HiddenSplit) -> list[Path]:
    return submissions.write(folder, documents, hidden, cirr_submission)


def test_written_files_pass(tmp_path: Path) -> None:
    hidden = small()
    made = features(NAMES, ["turn it"])
    documents = cirr_submission.build(hidden, WeightedSum(0.0), made)
    paths = write(tmp_path, documents, hidden)
    assert [path.name for path in paths] == [RECALL, SUBSET]
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
        small().check_whole(features(NAMES[1:], ["turn it"]))


BREAKS: list[tuple[Callable[[Any, HiddenSplit], Any], str]] = [
    (lambda d, t: d.update(metric="recall_subset"), "pair 0: not 3 different names"),
    (lambda d, t: d.update(metric=["recall"]), "'metric' one of recall, recall_subset"),
    (lambda d, t: d.update(version="rc1"), "'version' must be 'rc2'"),
    (lambda d, t: d.pop("0"), "1 pair ids are missing"),
    (lambda d, t: d.update({"99": d["0"]}), "not of test1: 99"),
    (lambda d, t: d.update({"0": [[name] for name in d["0"]]}), "pair 0: not a list of names"),
    (lambda d, t: d["0"].pop(), "not 50 different names"),
    (lambda d, t: d["0"].__setitem__(0, d["0"][1]), "not 50 different names"),
    (lambda d, t: d["0"].__setitem__(0, NAMES[0]), "its reference is among the names"),
    (lambda d, t: d["0"].__setitem__(0, "dev-1"), "'dev-1' is not among"),
]


@pytest.mark.parametrize(("damage", "said"), BREAKS)
def test_damage_is_found(damage: Callable[[Any, HiddenSplit], Any], said: str) -> None:
    hidden = small()
    document = cirr_submission.build(hidden, WeightedSum(0.0), features(NAMES, ["turn it"]))[RECALL]
    cirr_submission.check(RECALL, document, hidden)
    damage(document, hidden)
    with pytest.raises(UserError, match=said):
        cirr_submission.check(RECALL, document, hidden)


def test_subset_names_come_from_the_set() -> None:
    hidden = small()
    documents = cirr_submission.build(hidden, WeightedSum(0.0), features(NAMES, ["turn it"]))
    document: Any = documents[SUBSET]
    document["0"][0] = NAMES[40]
    with pytest.raises(UserError, match=r"pair 0: .*not among the images"):
        cirr_submission.check(SUBSET, document, hidden)


def test_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = small()
    documents = cirr_submission.build(hidden, WeightedSum(0.0), features(NAMES, ["turn it"]))
    monkeypatch.setattr(submissions, "MAX_BYTES", 100)
    with pytest.raises(UserError, match="larger than 100 bytes"):
        write(tmp_path, documents, hidden)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dataset", ["cirr", "fashioniq"])
def test_no_hidden_split_no_submission(tmp_path: Path, dataset: str) -> None:
    val: QueryRow = {**small().queries[0], "split": "val"}
    method, made = WeightedSum(0.0), features(NAMES, ["turn it"])
    status = submissions.submit(tmp_path, dataset, [val], [], method, made)
    said = {"cirr": "has no queries of test1", "fashioniq": "no server evaluates"}[dataset]
    assert status["files"] == []
    assert said in status["reason"]
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


@needs("cirr")
def test_real_split(tmp_path: Path) -> None:
    annotations = cirr.read_annotations(REAL)
    rows: list[GalleryRow] = [
        {"gallery": "test1", "category": "all", "image_id": i}
        for i in annotations.galleries["test1"]["all"]
    ]
    hidden = split(annotations.queries, rows)
    texts = sorted({query["captions"][0].strip() for query in hidden.queries})
    made = features(sorted(hidden.gallery), texts)
    paths = write(tmp_path, cirr_submission.build(hidden, WeightedSum(0.5), made), hidden)
    for path in paths:
        assert len(json.loads(path.read_text())) == 4148 + 2
        assert path.stat().st_size <= 5_000_000
