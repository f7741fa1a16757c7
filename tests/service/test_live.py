"""An index that changes while it is served."""

import shutil
from pathlib import Path

import pytest

from rau.evaluation.calibration import FILE, Calibration
from rau.files import digest_file
from rau.models.checkpoint import WEIGHTS
from rau.search import build, catalogue
from rau.search.model import Query
from rau.service.live import Live
from tests.search.synthetic import CPU, load_model, make_index
from tests.service.synthetic import calibrate, make_catalogue, make_synthetic, square


@pytest.fixture(name="folder")
def _synthetic(tmp_path: Path, encoder_folder: Path) -> Path:
    """A folder with a catalogue and an index that a test may change."""
    make_synthetic(tmp_path, encoder_folder)
    return tmp_path


def ids(live: Live) -> set[str]:
    """Ids that a search gives."""
    searcher = live.now.searcher
    return {hit.id for hit in searcher.search(Query(caption="red"), 100).hits}


def test_a_changed_index_is_opened_behind_what_runs(folder: Path, encoder_folder: Path) -> None:
    live = Live(folder / "index", CPU)
    old = live.now
    held = old.uploads.add(square("red"), old.searcher.model)
    live.refresh()
    assert live.now is old
    shutil.rmtree(folder / "catalogue")
    model = load_model(folder / "head", encoder_folder)
    make_index(folder / "index", make_catalogue(folder / "catalogue", 30), model)
    assert len(ids(live)) == 40
    live.refresh()
    assert len(ids(live)) == 30
    assert "shop/35" not in ids(live)
    # The old state still answers, the model was not loaded again, uploads are still held.
    assert len(old.searcher.search(Query([held.feature]), 100).hits) == 40
    assert live.now.searcher.model is old.searcher.model
    assert live.now.uploads.get(held.id) is held


def test_a_new_calibration_is_seen(folder: Path) -> None:
    live = Live(folder / "index", CPU)
    model = live.now.searcher.model
    calibrate(folder / "index", 0.5)
    live.refresh()
    searcher = live.now.searcher
    answer = searcher.search(Query([searcher.reference("shop/01")], "is red"))
    assert answer.confidence is not None
    assert answer.confidence.probability_at_k[10] == 0.5
    assert searcher.model is model


def test_a_new_calibration_of_the_head_is_seen(folder: Path) -> None:
    fitted = Calibration.read(folder / "index" / FILE)
    (folder / "index" / FILE).unlink()
    live = Live(folder / "index", CPU)
    assert live.now.searcher.calibration is None
    head = live.now.searcher.index.model_folder
    for temperature in (0.5, 0.7):
        made = {"head": digest_file(head / WEIGHTS), "temperature": temperature}
        own = fitted.model_copy(update=made)
        own.write(head / FILE)
        live.refresh()
        assert live.now.searcher.calibration == own
        now = live.now
        live.refresh()
        assert live.now is now


def test_another_model_takes_over_with_its_uploads_gone(folder: Path, encoder_folder: Path) -> None:
    live = Live(folder / "index", CPU)
    held = live.now.uploads.add(square("red"), live.now.searcher.model)
    other = load_model(folder / "other", encoder_folder, dim=12)
    found = catalogue.of_folder(folder / "catalogue")
    build.build(folder / "index", found, other, "exact", 8, 1, renew=True)
    live.refresh()
    assert live.now.searcher.model.key == other.key
    assert live.now.uploads.get(held.id) is None


def test_a_damaged_index_leaves_the_old_one_in_service(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live = Live(folder / "index", CPU)
    manifest = folder / "index/index.json"
    whole = manifest.read_text()
    manifest.write_text(whole[:100])
    live.refresh()
    live.refresh()
    assert live.problem is not None
    assert len(ids(live)) == 40
    assert len(caplog.records) == 1
    manifest.write_text(whole)
    live.refresh()
    assert live.problem is None
