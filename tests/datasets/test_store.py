"""Where a store lies, and that the built-in data set's folder is named by what is drawn into it."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from rau.datasets.garments import draw_pairs, plan
from rau.datasets.store import GARMENTS_RECIPE, store_folder
from rau.errors import UserError
from rau.params import DatasetParams, GarmentsParams
from tests.datasets.garments.test_generate import TINY

# What recipe 1 makes of a small set: a digest of ids, queries and captions, and grey levels of four
# pictures on a grid of 4 x 4. A change of either needs a new number, and its values here.
WORDS = {1: "b858bc198b0bb0a3"}
GREYS = {
    1: [
        [[154, 155, 155, 157], [151, 149, 145, 153], [147, 144, 141, 150], [143, 142, 142, 146]],
        [[215, 205, 199, 210], [223, 123, 81, 216], [231, 76, 48, 210], [239, 131, 119, 215]],
        [[157, 157, 156, 154], [157, 117, 115, 149], [157, 114, 108, 147], [157, 144, 142, 151]],
        [[161, 146, 137, 151], [165, 118, 99, 152], [163, 105, 99, 134], [167, 143, 144, 150]],
    ]
}


def test_the_recipes_number_says_what_is_described() -> None:
    said = [
        [p.ids, [[t.reference, t.target, [c.text for c in t.captions]] for t in p.triplets]]
        for p in plan(TINY)
    ]
    digest = hashlib.sha256(json.dumps(said).encode()).hexdigest()
    assert digest.startswith(WORDS[GARMENTS_RECIPE])


def test_the_recipes_number_says_what_is_drawn() -> None:
    pictures, _ = draw_pairs(4, 48, 0, 1)
    grey = np.asarray(pictures, dtype=float).mean(3).reshape(4, 4, 12, 4, 12).mean((2, 4))
    # Machines differ in rounding by less than a level.
    assert np.abs(grey - np.array(GREYS[GARMENTS_RECIPE])).max() < 2


def test_the_built_in_folder_is_named_by_recipe_and_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store_folder(DatasetParams(), tmp_path)
    assert folder.parent == tmp_path / "data/raw"
    other = DatasetParams(garments=GarmentsParams(seed=1))
    assert store_folder(other, tmp_path) != folder
    monkeypatch.setattr("rau.datasets.store.GARMENTS_RECIPE", GARMENTS_RECIPE + 1)
    assert store_folder(DatasetParams(), tmp_path) != folder


def test_the_users_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    relative = DatasetParams(name="fashioniq", root="mine")
    assert store_folder(relative, tmp_path) == tmp_path / "mine"
    absolute = DatasetParams(name="fashioniq", root=str(tmp_path / "mine"))
    assert store_folder(absolute, tmp_path / "elsewhere") == tmp_path / "mine"
    with pytest.raises(
        UserError, match=r"dataset\.root: folder .*none does not exist; check the path"
    ):
        store_folder(DatasetParams(root="none"), tmp_path)
