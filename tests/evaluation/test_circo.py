"""CIRCO's measures against a published submission, and files for its server."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rau.datasets import circo
from rau.datasets.annotations import Annotations
from rau.datasets.captions import asked_texts
from rau.errors import UserError
from rau.evaluation import benchmark, circo_submission, submissions
from rau.evaluation.hidden_split import HiddenSplit
from rau.features.table import Features
from rau.models.baselines import WeightedSum
from rau.params import EvaluateParams
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.protocols import CIRCO
from rau.schemas import GalleryRow
from tests import circo_data
from tests.places import SHARED, needs

REAL = SHARED / "circo"
TEXT_ONLY = WeightedSum(1.0)
# Of `submission_val.json`, published with the data set at 267b5c9, in percent.
PUBLISHED = {
    "map_at_5": 0.4861,
    "map_at_10": 0.5178,
    "map_at_25": 0.5400,
    "map_at_50": 0.6020,
    "recall_at_5": 0.9091,
    "recall_at_10": 0.9091,
    "recall_at_25": 1.3636,
    "recall_at_50": 3.6364,
}
PUBLISHED_ASPECTS = {
    "addition": 0.0871,
    "cardinality": 0.0,
    "compare_change": 0.0242,
    "comparative_statement": 1.0500,
    "direct_addressing": 0.9197,
    "negation": 0.0,
    "spatial_relations_background": 0.1808,
    "statement_with_conjunction": 0.6183,
    "viewpoint": 0.6173,
}


def read(folder: Path, source: Path, images: Iterable[int]) -> tuple[Annotations, list[GalleryRow]]:
    """Annotations in `folder`, with a list of images of our own, and the table of galleries."""
    (folder / "annotations").symlink_to(source / "annotations")
    path = folder / circo_data.LIST
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"images": [{"id": number} for number in images]}))
    found = circo.read_annotations(folder)
    members = found.galleries["original"]["all"]
    return found, [{"gallery": "original", "category": "all", "image_id": name} for name in members]


def numbers(source: Path) -> set[int]:
    """All images that annotations name."""
    rows = [r for p in (source / "annotations").iterdir() for r in json.loads(p.read_text())]
    return {n for r in rows for n in (r["reference_img_id"], *r.get("gt_img_ids", ()))}


def ordered(names: list[str], lists: dict[str, list[int]]) -> FeatureSet:
    """Features by which each text, the id of a query, ranks its list of images in its order.

    An image has a dimension for each query, and one more that gives all the same norm.
    """
    row = {int(name): n for n, name in enumerate(names)}
    images = np.zeros((len(names), len(lists) + 1))
    for column, listed in enumerate(lists.values()):
        images[[row[number] for number in listed], column] = np.arange(len(listed), 0, -1)
    norms = (images**2).sum(1)
    images[:, -1] = np.sqrt(norms.max() + 1 - norms)
    pair = (images, np.eye(len(lists), len(lists) + 1))
    tables = [
        Features(own, matrix.astype(np.float32), {"space": "shared"})
        for own, matrix in zip((names, [*lists]), pair, strict=True)
    ]
    return FeatureSet.on(torch.device("cpu"), *tables)


@needs("circo")
def test_a_published_submission_has_its_figures(tmp_path: Path) -> None:
    lists = json.loads((REAL / "submission_val.json").read_text())
    images = numbers(REAL).union(*lists.values())
    found, galleries = read(tmp_path, REAL, images)
    queries = [{**q, "captions": [q["query_id"]]} for q in found.queries if q["split"] == "val"]
    result, _ = benchmark.evaluate(
        {CIRCO[0]: {"published": TEXT_ONLY}},
        queries,  # type: ignore[arg-type]
        galleries,
        ordered([row["image_id"] for row in galleries], lists),
        EvaluateParams(bootstrap=0),
        "published",
    )
    measured = result.protocols["circo"]["all"]
    assert {name: measured[name] for name in PUBLISHED} == PUBLISHED
    assert result.aspects == {"circo": {"published": PUBLISHED_ASPECTS}}


def small(folder: Path, images: int = 60) -> tuple[HiddenSplit, FeatureSet]:
    """A hidden split, and features of its images and texts, random."""
    circo_data.write_annotations(folder / "official", images=60)
    listed = [circo_data.number(n) for n in range(images)]
    found, galleries = read(folder, folder / "official", listed)
    hidden = HiddenSplit.of("test", "original", found.queries, galleries)
    assert hidden is not None
    return hidden, random(hidden)


def random(hidden: HiddenSplit) -> FeatureSet:
    rng = np.random.default_rng(0)
    texts = {t for q in hidden.queries for t in asked_texts(q["captions"], q.get("concept"))}
    tables = [
        Features(names, rng.standard_normal((len(names), 8)).astype(np.float32), {})
        for names in (sorted(hidden.gallery), sorted(texts))
    ]
    return FeatureSet.on(torch.device("cpu"), *tables)


def test_written_files_pass(tmp_path: Path) -> None:
    hidden, features = small(tmp_path)
    galleries: list[GalleryRow] = [
        {"gallery": "original", "category": "all", "image_id": name} for name in hidden.gallery
    ]
    arguments = ("circo", hidden.queries, galleries, TEXT_ONLY, features)
    status = submissions.submit(tmp_path / "out", *arguments)
    assert status == {"files": ["circo_test.json", "circo-concept_test.json"], "reason": None}
    plain, concept = (json.loads((tmp_path / "out" / n).read_text()) for n in status["files"])
    assert plain.keys() == concept.keys() == {str(n) for n in range(6)}
    images, texts = features.images, features.texts
    unit = images.matrix / np.linalg.norm(images.matrix, axis=1, keepdims=True)
    for document, before in ((plain, ""), (concept, "a shape of kind 2 ")):
        asked = texts.matrix[texts.index[f"{before}is turned 2 times"]]
        order = np.argsort(-(unit @ asked))[:50]
        assert document["2"] == [int(images.names[place]) for place in order]


@needs("circo")
def test_the_real_split(tmp_path: Path) -> None:
    found, galleries = read(tmp_path, REAL, numbers(REAL))
    hidden = HiddenSplit.of("test", "original", found.queries, galleries)
    assert hidden is not None
    documents = circo_submission.build(hidden, TEXT_ONLY, random(hidden))
    for path in submissions.write(tmp_path / "out", documents, hidden, circo_submission):
        assert {len(row) for row in json.loads(path.read_text()).values()} == {50}


BREAKS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda d: d.pop("0"), "1 queries are missing or not of test: 0"),
    (lambda d: d.update({"99": d["0"]}), "not of test: 99"),
    (lambda d: d["0"].pop(), "query 0: not 50 different images"),
    (lambda d: d["0"].__setitem__(0, d["0"][1]), "query 0: not 50 different images"),
    (lambda d: d["0"].__setitem__(0, str(d["0"][0])), "query 0: not a list of numbers"),
    (lambda d: d.update({"0": None}), "query 0: not a list of numbers"),
    (lambda d: d["0"].__setitem__(0, 10**9), "query 0: 1000000000 is not among the images"),
]


@pytest.mark.parametrize(("damage", "said"), BREAKS)
def test_damage_is_found(tmp_path: Path, damage: Callable[[Any], Any], said: str) -> None:
    hidden, features = small(tmp_path)
    name, document = next(iter(circo_submission.build(hidden, TEXT_ONLY, features).items()))
    circo_submission.check(name, document, hidden)
    damage(document)
    with pytest.raises(UserError, match=said):
        circo_submission.check(name, document, hidden)
