"""What of a catalogue counts as unchanged is not read again."""

from pathlib import Path
from typing import cast

import pytest

from rau.schemas import IMAGES, ImageRow
from rau.search.build import build
from rau.search.catalogue import of_images
from rau.search.difference import Changes
from rau.search.model import Model
from tests.search.synthetic import draw_folder, load_model


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> Model:
    return load_model(tmp_path_factory.mktemp("head"), encoder_folder)


def test_pictures_outside_of_the_data_sets_folder_are_not_read_again(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = dict.fromkeys(IMAGES.names) | {"category": "all", "status": "ok"}
    paths = [tmp_path / "pictures" / name for name in draw_folder(tmp_path / "pictures", 12)]
    rows = [{**row, "image_id": path.stem, "path": str(path)} for path in paths]
    catalogue = of_images("a data set", tmp_path / "elsewhere", cast(list[ImageRow], rows))
    build(tmp_path / "index", catalogue, model, "exact", 4, 1)
    monkeypatch.setattr("rau.search.build.read_bytes", lambda *_: pytest.fail("read again"))
    changes = build(tmp_path / "index", catalogue, model, "exact", 4, 1)[1]
    assert changes == Changes(kept=12)
