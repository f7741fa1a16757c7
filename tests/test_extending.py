"""What `docs/extending.md` tells to write works: its code is taken from the page."""

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from rau.datasets import manifest
from rau.datasets.locate import locate
from rau.errors import UserError
from rau.methods import METHODS, Method
from rau.models.head import ComposedHead
from rau.params import HeadParams, Params
from rau.retrieval.tasks import run_all
from rau.training import triplets
from tests.places import ROOT
from tests.training.test_trainer import fit, params, world

PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
METHOD, ENTRY, READER = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def module(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str) -> ModuleType:
    """Import a module that the page shows."""
    (folder / f"{name}.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(name)


def add_method(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The page's method in the registry, and parameters that choose it."""
    module(folder, monkeypatch, "hadamard", METHOD)
    added: dict[str, Method] = {}
    exec(ENTRY.replace("rau.models.hadamard:", "hadamard:"), {"METHODS": added, "Method": Method})
    for name, method in added.items():
        monkeypatch.setitem(METHODS, name, method)
    (name,) = added
    return params(epochs=20, lr=0.01).model_copy(
        update={"head": HeadParams(name=name, dropout=0.1)}
    )


def test_a_method_from_the_page_is_trained_and_ranked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Texts in a space of their own, so that there is much to learn.
    features, queries = world(d_text=12)
    chosen = add_method(tmp_path, monkeypatch)
    fitted = fit(chosen, features, queries, tmp_path / "state")
    assert fitted.head.config.name == chosen.head.name
    losses = [row["base"] for row in fitted.training.history[1:]]
    assert None not in losses
    assert losses[-1] < losses[0]  # type: ignore[operator]
    split = triplets.divide(queries, features, 0.2, 0)
    tasks = triplets.holdout_tasks(split, features, "forward", False)

    def mean_rank(method: ComposedHead) -> float:
        found = run_all(tasks, method, features, 5)
        return float(np.concatenate([one.ranking.target_rank for one in found]).mean())

    torch.manual_seed(0)
    assert mean_rank(fitted.head) < 0.6 * mean_rank(ComposedHead(fitted.head.config))


def test_the_methods_loss_is_the_sum_over_negatives_of_its_formula(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = module(tmp_path, monkeypatch, "hadamard", METHOD)
    found: Any = made.cosines(*torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0)))
    ids = torch.tensor([0, 1, 1, 2])
    slow = 0.0
    for i in range(4):
        for j in range(4):
            if ids[i] != ids[j]:
                slow += max(0.0, float(made.MARGIN + found[i, j] - found[i, i])) / 4
    monkeypatch.setattr(made, "cosines", lambda *_: found)
    output = type("Output", (), {"mean": torch.zeros(4, 8)})()
    context = type("Context", (), {"target_ids": ids})()
    assert made.HingeLoss(0.1)(output, output, context).total.item() == pytest.approx(slow)


def test_a_reader_from_the_page_makes_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader: Any = module(tmp_path, monkeypatch, "jsonlines", READER)
    rows = [
        {"split": split, "reference": f"{split}{n}", "target": f"{split}{n + 1}", "caption": "red"}
        for split in ("train", "val")
        for n in range(3)
    ]
    path = tmp_path / "queries.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = reader.read_annotations(tmp_path)
    images = {image_id: found.places(image_id) for image_id in found.image_ids}
    tables = found.tables(manifest.build(tmp_path, locate(tmp_path, images), {}, 1))
    assert tables["images"]["status"].to_pylist() == ["missing"] * 8
    assert tables["queries"]["split"].to_pylist() == ["train"] * 3 + ["val"] * 3
    assert sorted(set(tables["galleries"]["image_id"].to_pylist())) == [
        "val0",
        "val1",
        "val2",
        "val3",
    ]
    path.write_text('{"split": "val"}')
    with pytest.raises(UserError, match="line 1: not a query"):
        reader.read_annotations(tmp_path)
