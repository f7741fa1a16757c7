"""A folder to run examples in: an index, a small FashionIQ, features as pandas writes them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.search.synthetic import draw, draw_folder, load_model, make_index
from tests.synthetic import CATEGORIES, write_annotations

WIDTH = 8
IMAGES = 60


def vectors(count: int, seed: int) -> np.ndarray:
    """Random directions, (count, WIDTH)."""
    return np.random.default_rng(seed).normal(size=(count, WIDTH))


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> Path:
    """See the module."""
    root = tmp_path_factory.mktemp("desk")
    paths = draw_folder(root / "pictures", 12)
    table = pd.DataFrame({"image": paths, "id": paths, "price": range(len(paths))})
    table.to_csv(root / "pictures/products.csv", index=False)
    model = load_model(root / "head", encoder_folder)
    make_index(root / "data/index", root / "pictures", model)
    draw(root / "photos/a.png", 100)
    write_annotations(root / "fashion-iq", IMAGES)
    every = [f"{category[0].upper()}{n:05}" for category in CATEGORIES for n in range(IMAGES)]
    frame = pd.DataFrame({"image_id": every, "feature": list(vectors(len(every), 0))})
    (root / "features").mkdir()
    frame.to_parquet(root / "features/images.parquet")
    return root
