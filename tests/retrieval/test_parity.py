"""Our recalls against slow loops written from the protocols' text, on the real annotation files.

Features are random signs: cosines are exact in float32, and ties abound, so that the last digit
is a fair thing to ask for.
"""

import hashlib
import json
from collections import defaultdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rau.datasets.captions import all_texts
from rau.datasets.readers import reader
from rau.evaluation import benchmark
from rau.features.table import Features
from rau.params import EvaluateParams
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.protocols import presets
from rau.schemas import GalleryRow
from tests.places import SHARED, needs

HALF = 32


def signs(kind: str, name: str) -> Any:
    """64 signs that only the name decides."""
    digest = hashlib.sha256(f"{kind}:{name}".encode()).digest()[:8]
    return 2 * np.unpackbits(np.frombuffer(digest, np.uint8)).astype(np.float32) - 1


class Halves:
    """A composition whose cosines are exact: half of the reference, half of the text."""

    def encode_query(self, reference: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([reference[:, :HALF], text[:, HALF:]], 1), torch.zeros(len(text))

    def encode_gallery(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return image, torch.zeros(len(image))


def ours(dataset: str) -> Any:
    annotations = reader(dataset).read_annotations(SHARED / dataset)
    galleries: list[GalleryRow] = [
        {"gallery": gallery, "category": category, "image_id": image_id}
        for gallery, categories in annotations.galleries.items()
        for category, ids in categories.items()
        for image_id in ids
    ]
    val = [query for query in annotations.queries if query["split"] == "val"]
    images = sorted({row["image_id"] for row in galleries})
    texts = sorted({text for query in val for text in all_texts(query["captions"])})

    def made(kind: str, names: list[str]) -> Features:
        return Features(names, np.stack([signs(kind, n) for n in names]).astype(np.float16), {})

    features = FeatureSet.on(torch.device("cpu"), made("image", images), made("text", texts))
    methods = {protocol: {"halves": Halves()} for protocol in presets(dataset)}
    evaluate = EvaluateParams(bootstrap=0)
    result, _ = benchmark.evaluate(methods, val, galleries, features, evaluate, "halves")
    return result.protocols


def slow_rank(reference: str, text: str, target: str, gallery: list[str], stacked: Any) -> int:
    query = np.concatenate([signs("image", reference)[:HALF], signs("text", text)[HALF:]])
    scores = stacked @ query
    own = scores[gallery.index(target)]
    tied = (gallery[place] for place in np.flatnonzero(scores == own))
    return int((scores > own).sum()) + sum(name < target for name in tied) + 1


def recalls(ranks: list[int], cuts: tuple[int, ...]) -> list[float]:
    return [100 * sum(rank <= k for rank in ranks) / len(ranks) for k in cuts]


def in_words(first: str, second: str) -> str:
    """c1 without dots, question marks, commas and blanks around it, capitalised, and c2."""
    return first.strip(".?, ").capitalize() + " and " + second.strip(".?, ")


def slow_fashioniq(protocol: str) -> dict[str, list[float]]:
    found = {}
    for category in ("dress", "shirt", "toptee"):
        root = SHARED / "fashioniq"
        queries = json.loads((root / f"captions/cap.{category}.val.json").read_text())
        if protocol == "original":
            split = root / f"image_splits/split.{category}.val.json"
            gallery = sorted(json.loads(split.read_text()))
        else:
            gallery = sorted({q["candidate"] for q in queries} | {q["target"] for q in queries})
        stacked = np.stack([signs("image", name) for name in gallery])
        ranks = []
        for query in queries:
            one, two = query["captions"]
            reference, target = query["candidate"], query["target"]
            if protocol == "original":
                text = in_words(one, two)
                ranks.append(slow_rank(reference, text, target, gallery, stacked))
                continue
            rest = [name for name in gallery if name != reference]
            without = np.delete(stacked, gallery.index(reference), axis=0)
            for text in (in_words(one, two), in_words(two, one)):
                ranks.append(slow_rank(reference, text, target, rest, without))
        found[category] = recalls(ranks, (1, 5, 10, 50))
    return found


@needs("fashioniq")
def test_fashioniq_agrees_with_the_loop() -> None:
    measured = ours("fashioniq")
    for protocol in ("original", "val"):
        slow = slow_fashioniq(protocol)
        names = [f"recall_at_{k}" for k in (1, 5, 10, 50)]
        for category, expected in slow.items():
            values = [measured[protocol][category][name] for name in names]
            assert values == [round(value, 4) for value in expected], (protocol, category)
        mean = np.mean([(row[2] + row[3]) / 2 for row in slow.values()])
        assert measured[protocol]["mean"]["mean_of_r10_r50"] == round(float(mean), 4)


@needs("cirr")
def test_cirr_agrees_with_the_loop() -> None:
    queries = json.loads((SHARED / "cirr/captions/cap.rc2.val.json").read_text())
    gallery = sorted(json.loads((SHARED / "cirr/image_splits/split.rc2.val.json").read_text()))
    stacked = np.stack([signs("image", name) for name in gallery])
    ranks: dict[str, list[int]] = defaultdict(list)
    for query in queries:
        reference, target, text = query["reference"], query["target_hard"], query["caption"].strip()
        rest = [name for name in gallery if name != reference]
        without = np.delete(stacked, gallery.index(reference), axis=0)
        ranks["all"].append(slow_rank(reference, text, target, rest, without))
        others = [name for name in query["img_set"]["members"] if name != reference]
        five = np.stack([signs("image", name) for name in others])
        ranks["subset"].append(slow_rank(reference, text, target, others, five))
    recall = recalls(ranks["all"], (1, 5, 10, 50))
    subset = recalls(ranks["subset"], (1, 2, 3))
    measured = ours("cirr")["cirr"]["all"]
    values = [measured[f"recall_at_{k}"] for k in (1, 5, 10, 50)]
    values += [measured[f"subset_recall_at_{k}"] for k in (1, 2, 3)]
    expected = [*recall, *subset, (recall[1] + subset[0]) / 2]
    assert [*values, measured["mean_of_r5_rs1"]] == [round(value, 4) for value in expected]
