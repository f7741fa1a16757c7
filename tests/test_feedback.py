"""Simulated answers of users are true, and of products that are not measured."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import feedback
from rau.encoders import encoder as encoders
from rau.features.table import Features
from rau.models.head import ComposedHead
from rau.params import Params
from tests.heads import small_config


def test_users_confirm_what_is_right(
    tmp_path: Path, encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "DRAWN", 3000)
    garments = {"train_images": 120, "val_images": 60}
    queries = {"train_queries": 30, "val_queries": 10}
    params = Params.model_validate({"dataset": {"garments": garments, "catalogue": queries}})
    made = feedback.open_shop(tmp_path, params)
    products = made.before.products
    val = {products.ids[row] for row in np.flatnonzero(made.before.val)}
    assert all(
        {q["reference_id"], q["target_id"], *(q["relevant"] or ())} <= val for q in made.test
    )
    assert not any({q["reference_id"], q["target_id"]} <= val for q in made.asked)
    encoder = encoders.load(encoder_folder, torch.device("cpu"))
    width = encoder.encode_texts(["a"]).shape[1]
    matrix = np.random.default_rng(0).normal(size=(len(products), width)).astype(np.float16)
    features = feedback.features_of(made, Features(products.ids, matrix, {}), encoder, 256)
    head = ComposedHead(small_config(d_image=width, d_text=width)).eval()
    asked = feedback.answer(tmp_path / "feedback", made.asked, head, features, 20)
    (path,) = (tmp_path / "feedback").iterdir()
    rows = list(csv.DictReader(path.open()))
    assert len(rows) == 20 <= asked
    right = {
        (query["reference_id"], query["captions"][0], name)
        for query in made.asked
        for name in query["relevant"] or ()
    }
    assert {(row["reference"], row["caption"], row["target"]) for row in rows} <= right
    tasks = feedback.val_tasks(made, features)
    assert sum(len(task.clusters) for task in tasks) == len(made.test)
