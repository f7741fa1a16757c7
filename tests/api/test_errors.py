"""What a caller of the interface can get wrong is one line that says what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import rau

TEXTS = {"is red": [1.0, 0.0]}
IMAGES = {"a": [1.0, 0.0], "b": [0.0, 1.0]}
QUERY = {"reference_id": "a", "target_id": "b", "captions": "is red"}


def features(**changes: Any) -> Any:
    """Three vectors in a shared space."""
    given: dict[str, Any] = {"images": IMAGES, "texts": TEXTS, "shared_space": True}
    return rau.feature_set(**given | changes)


def evaluate(*queries: dict[str, Any], **changes: Any) -> pd.DataFrame:
    """Measure queries against two images."""
    own = {"features": features(), "galleries": ["a", "b"]} | changes
    return rau.evaluate(queries=list(queries), **own)


CASES: dict[str, Callable[[], Any]] = {
    "duplicate names": lambda: features(images=(["a", "a"], np.ones((2, 2)))),
    "all zeros or not finite, the first is that of 'b'": lambda: features(
        images=(["a", "b"], [[1, 0], [0, 0]])
    ),
    "names, but an array of shape": lambda: features(images=(["a"], np.ones((2, 2)))),
    "not a matrix of numbers": lambda: features(images={"a": [1, 2], "b": [1, 2, 3]}),
    "images have dimension 2 and texts 3": lambda: features(texts={"is red": [1, 0, 0]}),
    "images: tuple is not a supported type": lambda: features(images=(["a", "b"],)),
    "not a matrix of numbers (Can't call numpy() on Tensor that requires": lambda: features(
        texts=(["is red"], torch.ones(1, 2, requires_grad=True))
    ),
    "int is not a supported type": lambda: features(images=3),
    "no column feature": lambda: features(images=pd.DataFrame({"image_id": ["a"]})),
    "queries have no column captions": lambda: evaluate({"reference_id": "a", "target_id": "b"}),
    "no queries of the split 'val'": lambda: evaluate(QUERY | {"split": "train"}),
    "1 texts have no feature: 'is blue'": lambda: evaluate(QUERY | {"captions": "is blue"}),
    "target c of": lambda: evaluate(QUERY | {"target_id": "c"}),
    "no protocol is called 'fiq'": lambda: evaluate(QUERY, protocol="fiq"),
    "unknown untrained method 'rau'": lambda: evaluate(QUERY, method="rau"),
    "share no space": lambda: evaluate(QUERY, features=features(shared_space=False)),
    "galleries have no column image_id": lambda: evaluate(QUERY, galleries=[{"image": "a"}]),
    "galleries: int is not a frame or a list": lambda: evaluate(QUERY, galleries=3),
    "queries: str is not a frame or a list of records": lambda: rau.evaluate(
        features(),
        "queries.parquet",  # type: ignore[arg-type]
        ["a"],
    ),
    "queries: int is not a frame or a list": lambda: rau.needed_texts(3),  # type: ignore[arg-type]
    "method: int has no encode_query": lambda: evaluate(QUERY, method=3),
    "top_k: Input should be greater": lambda: evaluate(QUERY, top_k=0),
    "unusable: Input should be 'miss' or": lambda: evaluate(QUERY, unusable="skip"),
    "bootstrap: Input should be greater": lambda: evaluate(QUERY, bootstrap=-1),
    "queries: row 0 has no captions; give": lambda: rau.needed_texts([{"target_id": "b"}]),
    "queries: (": lambda: evaluate(QUERY | {"captions": 4}),
    "row 1 has no captions": lambda: rau.needed_texts([QUERY, {**QUERY, "captions": None}]),
    "queries: row 1 has no captions": lambda: rau.needed_texts([QUERY, {"captions": []}]),
    "target_id is null in 1 rows": lambda: evaluate(QUERY, QUERY | {"target_id": None}),
    "a category cannot be named 'mean'": lambda: evaluate(QUERY | {"category": "mean"}),
    "row 0 has no captions": lambda: rau.needed_texts([{"captions": [3]}]),
    "unknown parameter ua.thet": lambda: rau.fit(features(), [QUERY], {"ua.thet": 1}),
    "params: ua.theta": lambda: rau.fit(features(), [QUERY], {"ua.theta": 7.0}),
    "usable train queries leave": lambda: rau.fit(features(), [QUERY], progress=False),
    "unknown data set 'x'": lambda: rau.datasets.read("x", "."),
    "folder nowhere does not exist": lambda: rau.datasets.read("cirr", "nowhere"),
    "nowhere": lambda: rau.load("nowhere"),
    "device=tpu is not available": lambda: rau.Head.load("nowhere", "tpu"),
    "cannot read nowhere/head.safetensors": lambda: rau.Head.load("nowhere", "auto"),
}


@pytest.mark.parametrize("message", CASES)
def test_an_error_is_a_line(message: str) -> None:
    with pytest.raises(rau.UserError) as caught:
        CASES[message]()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train.start", "finetuned"),
        ("train.head", "/nowhere"),
        ("train.device", "cuda"),
        ("dataset.name", "cirr"),
        ("finetune.epochs", 2),
    ],
)
def test_a_parameter_without_effect_is_refused(name: str, value: Any) -> None:
    with pytest.raises(rau.UserError, match=f"params: {name} has no effect here; give those of"):
        rau.fit(features(), [QUERY], {name: value})


def test_without_queries_no_text_is_needed() -> None:
    assert rau.needed_texts([]) == []


def test_a_damaged_index_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(rau.UserError, match="index"):
        rau.load(tmp_path)
