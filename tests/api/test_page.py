"""What `docs/python.md` and the docstrings of the interface show works."""

import doctest
import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rau
from tests.api.conftest import vectors
from tests.places import ROOT

PAGE = (ROOT / "docs/python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_page(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    names: dict[str, Any] = {"encode_texts": lambda texts: vectors(len(texts), 1)}
    for block in BLOCKS:
        exec(compile(block, "docs/python.md", "exec"), names)
    assert (desk / "answer.png").stat().st_size
    assert names["head"].record["best_epoch"] in range(4)
    # Whatever the rows are of.
    assert names["head"].record["dataset"] is None


@pytest.mark.parametrize("name", [*sorted({*rau._MODULES.values()}), "rau.datasets"])
def test_the_docstrings(name: str, desk: Path) -> None:
    annotations = desk / "fashion-iq"
    data = rau.datasets.read("fashioniq", annotations)
    texts = rau.needed_texts(data.queries)
    features = rau.feature_set(desk / "features/images.parquet", (texts, vectors(len(texts), 1)))
    known = {
        "rau": rau,
        "annotations": annotations,
        "index": desk / "data/index",
        "features": features,
        "queries": data.queries,
    }
    module = importlib.import_module(name)
    found = doctest.testmod(module, extraglobs=known)
    assert found.failed == 0
    # An error alone has nothing to show.
    assert found.attempted or name == "rau.errors"


def test_every_name_is_there_and_documented() -> None:
    for name in rau.__all__:
        assert getattr(rau, name).__doc__
    assert {*rau.__all__} == {*rau._MODULES, "datasets"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        rau.nothing  # noqa: B018


def test_the_import_is_free_of_heavy_libraries() -> None:
    import subprocess
    import sys

    code = "import rau, sys; print('torch' in sys.modules or 'pandas' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "False"


def test_a_vector_means_the_same_however_it_is_given(desk: Path) -> None:
    import pandas as pd

    names = ["a", "b", "c"]
    matrix = vectors(3, 0).astype(np.float32)
    texts = {"is red": [1.0] * matrix.shape[1]}
    long = pd.DataFrame({"image_id": names, "feature": list(matrix.astype(np.float64))})
    long.to_parquet(desk / "own.parquet")
    wide = pd.DataFrame(matrix, index=names)
    wide.rename(columns=str).to_parquet(desk / "wide.parquet")
    ways: list[Any] = [
        (names, matrix),
        dict(zip(names, matrix, strict=True)),
        long,
        long.set_index("image_id"),
        wide,
        desk / "own.parquet",
        desk / "wide.parquet",
    ]
    found = [rau.feature_set(way, texts) for way in ways]
    for one in found:
        assert one.images.names == names
        assert np.array_equal(one.images.matrix, matrix)
        assert one.images.metadata["key"] == found[0].images.metadata["key"]


def test_a_method_may_be_a_module_with_parameters() -> None:
    import torch

    class Mine(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor(0.5))

        def encode_query(self, reference: Any, text: Any) -> Any:
            return self.weight * (reference + text), self.weight.expand(len(text))

        def encode_gallery(self, image: Any) -> Any:
            return self.weight * image, self.weight.expand(len(image))

    features = rau.feature_set({"a": [1, 0], "b": [1, 1]}, {"is red": [0, 1]})
    query = {"reference_id": "a", "target_id": "b", "captions": "is red"}
    assert torch.is_grad_enabled()
    found = rau.evaluate(features, [query], ["a", "b"], method=Mine())
    assert found.value["mean", "recall_at_1"] == 100
