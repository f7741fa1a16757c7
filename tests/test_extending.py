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
import yaml
from PIL import Image

import rau
from rau.datasets.readers import reader
from rau.errors import UserError
from rau.layouts import LAYOUTS
from rau.methods import METHODS, Method
from rau.models import checkpoint
from rau.models.head import ComposedHead
from rau.params import HeadParams, Params
from rau.project import workspace
from rau.retrieval.tasks import run_all
from rau.schemas import read_galleries, read_images, read_queries
from rau.training import triplets
from tests.places import ROOT
from tests.project import stage
from tests.training.test_trainer import fit, params, synthetic

PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
METHOD, METHOD_ENTRY, LOSS, LOSS_ENTRY, READER, READER_ENTRY = re.findall(
    r"```python\n(.*?)```", PAGE, re.DOTALL
)
QUERIES = [
    {
        "split": split,
        "reference": f"{split}{n}",
        "target": f"{split}{n + 1}",
        "caption": f"like {n + 1}",
    }
    for split in ("train", "val")
    for n in range(3)
]


def module(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str) -> ModuleType:
    """Import a module that the page shows."""
    (folder / f"{name}.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(name)


def add_method(
    folder: Path, monkeypatch: pytest.MonkeyPatch, place: str, code: str, entry: str
) -> Params:
    """A method of the page in the registry, and parameters that choose it.

    Args:
        place: the module that the page says the code is.
    """
    own = place.rpartition(".")[2]
    module(folder, monkeypatch, own, code)
    added: dict[str, Method] = {}
    exec(entry.replace(f"{place}:", f"{own}:"), {"METHODS": added, "Method": Method})
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
    features, queries = synthetic(d_text=12)
    chosen = add_method(tmp_path, monkeypatch, "rau.models.hadamard", METHOD, METHOD_ENTRY)
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


def test_a_loss_from_the_page_is_saved_and_ranked_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, queries = synthetic()
    chosen = add_method(tmp_path, monkeypatch, "rau.losses.power", LOSS, LOSS_ENTRY)
    head = fit(chosen, features, queries, tmp_path / "state").head
    power: Any = head.criterion.power
    assert power.item() != 1  # Learned.
    checkpoint.save(tmp_path, head, {})
    again, _ = checkpoint.load(tmp_path, "cpu")
    assert torch.equal(torch.as_tensor(again.criterion.power), power)
    # An exponent at which the order is another.
    with torch.no_grad():
        torch.as_tensor(again.criterion.power).fill_(3.0)
        images = features.image_matrix
        mean = again.forward_target(images).mean
    vectors, _ = again.encode_gallery(images)
    assert torch.allclose(vectors, torch.nn.functional.normalize(mean**3, dim=-1), atol=1e-5)
    asked, _ = again.encode_query(images[:8], features.text_matrix[:8])
    with torch.no_grad():
        source = again.forward_source(images[:8], features.text_matrix[:8]).mean
    assert torch.allclose(asked, torch.nn.functional.normalize(source**3, dim=-1), atol=1e-5)


def add_data_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The page's data set in the registry; returns its name."""
    module(folder, monkeypatch, "jsonlines", READER)
    added: dict[str, str] = {}
    exec(READER_ENTRY, {"LAYOUTS": added})
    ((name, place),) = added.items()
    monkeypatch.setitem(LAYOUTS, name, place.rpartition(".")[2])
    return name


def write_data_set(folder: Path) -> Path:
    """A folder in the layout of the page; one image is missing."""
    (folder / "images").mkdir(parents=True)
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, QUERIES)), encoding="utf-8")
    for image_id in {end for row in QUERIES for end in (row["reference"], row["target"])}:
        if image_id != "train0":
            Image.new("RGB", (8, 8), "red").save(folder / f"images/{image_id}.png")
    return folder


def test_a_data_set_from_the_page_goes_through_the_tables_to_a_ranking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = add_data_set(tmp_path, monkeypatch)
    write_data_set(tmp_path / "mine")
    project = tmp_path / "project"
    project.mkdir()
    dataset = {"name": name, "root": str(tmp_path / "mine"), "allow_missing": True}
    (project / "params.yaml").write_text(yaml.safe_dump({"dataset": dataset}))
    stage(project, "download")
    assert "6 queries" in stage(project, "tables")
    monkeypatch.chdir(project)
    images = read_images(workspace.table(name, "images"))
    missing = [row["image_id"] for row in images if row["status"] == "missing"]
    assert (len(images), missing) == (8, ["train0"])
    queries = read_queries(workspace.table(name, "queries"))
    assert [query["split"] for query in queries] == ["train"] * 3 + ["val"] * 3
    galleries = read_galleries(workspace.table(name, "galleries"))
    gallery = [f"val{n}" for n in range(4)]
    assert sorted({row["image_id"] for row in galleries}) == gallery
    # A caption's feature is that of the target.
    axes = np.eye(4)
    val = [query for query in queries if query["split"] == "val"]
    texts = {rau.needed_texts([query])[0]: axes[n + 1] for n, query in enumerate(val)}
    features = rau.feature_set(images=(gallery, axes), texts=texts, shared_space=True)
    found = rau.evaluate(features, queries, galleries, method="text_only", bootstrap=0)
    assert found.value["mean", "recall_at_1"] == 100
    assert rau.datasets.read(name, tmp_path / "mine").queries.target_id[0] == "train1"


def test_a_data_set_from_the_page_names_a_malformed_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = add_data_set(tmp_path, monkeypatch)
    (tmp_path / "queries.jsonl").write_text('{"split": "val"}')
    with pytest.raises(UserError, match="line 1: not a query"):
        reader(name).read_annotations(tmp_path)
    with pytest.raises(UserError, match=r"choose from garments, .*jsonlines"):
        rau.datasets.read("another", tmp_path)
