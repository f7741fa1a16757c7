"""All protocols of a method in one go: nothing is encoded twice, and nothing else changes."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from rau.datasets.captions import all_texts
from rau.evaluation import benchmark
from rau.features.table import Features
from rau.models.baselines import WeightedSum
from rau.params import EvaluateParams
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.protocols import Protocol, presets
from rau.retrieval.tasks import Method
from rau.schemas import GalleryRow, QueryRow


@dataclass
class Counted:
    """A weighted sum that notes how many rows it was given."""

    images: int = 0
    queries: int = 0
    method: WeightedSum = field(default_factory=lambda: WeightedSum(0.3))

    def encode_query(self, reference: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        self.queries += len(text)
        return self.method.encode_query(reference, text)

    def encode_gallery(self, image: Tensor) -> tuple[Tensor, Tensor]:
        self.images += len(image)
        return self.method.encode_gallery(image)


def synthetic() -> tuple[list[QueryRow], list[GalleryRow], FeatureSet]:
    """Forty val queries of two categories in one pool of images, in both galleries."""
    rng = np.random.default_rng(5)
    ids = [f"{n:02}" for n in range(30)]
    queries: list[QueryRow] = [
        {
            "query_id": str(n),
            "category": ("dress", "shirt")[n % 2],
            "split": "val",
            "reference_id": ids[n % 30],
            "target_id": ids[(7 * n + 1) % 30],
            "captions": [f"longer {n}", f"red {n % 3}"],
            "relevant": [ids[(7 * n + 1) % 30], ids[(n + 2) % 30]],
            "members": None,
        }
        for n in range(40)
        if n % 30 != (7 * n + 1) % 30
    ]
    galleries: list[GalleryRow] = [
        {"gallery": gallery, "category": category, "image_id": image}
        for gallery in ("original", "val-union")
        for category in ("dress", "shirt")
        for image in ids
    ]
    texts = sorted({text for query in queries for text in all_texts(query["captions"])})
    made = [
        Features(names, rng.normal(size=(len(names), 24)).astype(np.float16), {})
        for names in (ids, texts)
    ]
    return queries, galleries, FeatureSet.on(torch.device("cpu"), *made)


def test_protocols_that_share_a_method_encode_once() -> None:
    queries, galleries, features = synthetic()
    evaluate = EvaluateParams(bootstrap=20, top_k=5)
    shared = Counted()
    methods: dict[Protocol, dict[str, Method]] = {
        protocol: {"ours": shared, "image only": WeightedSum(0.0)}
        for protocol in presets("garments")
    }
    together, rows = benchmark.evaluate(
        methods, queries, galleries, features, evaluate, "ours", "image only"
    )
    # Captions joined forward are one of the two orders that `separate` asks for.
    assert (shared.images, shared.queries) == (30, 2 * len(queries))
    tables = []
    for protocol, by_name in methods.items():
        alone, table = benchmark.evaluate(
            {protocol: by_name}, queries, galleries, features, evaluate, "ours", "image only"
        )
        tables += table.to_pylist()
        for part in ("protocols", "intervals", "galleries", "against"):
            ours, whole = (getattr(found, part) for found in (alone, together))
            assert ours[protocol.name] == whole[protocol.name]
        for part in ("baselines", "baseline_intervals"):
            ours, whole = (getattr(found, part)["image only"] for found in (alone, together))
            assert ours[protocol.name] == whole[protocol.name]
    names = ("query_id", "method", "protocol", "category", "target_rank", "top")
    assert [[row[n] for n in names] for row in rows.to_pylist()] == [
        [row[n] for n in names] for row in tables
    ]
