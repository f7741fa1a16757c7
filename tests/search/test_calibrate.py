"""A search says how sure it is where that was checked, and why not elsewhere."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rau.errors import UserError
from rau.evaluation.calibration import FILE, Calibration, Lists, fit
from rau.files import digest_file
from rau.schemas import QueryRow
from rau.search.build import build
from rau.search.calibrate import calibrate
from rau.search.catalogue import of_folder
from rau.search.model import Model, Query
from rau.search.searcher import Searcher
from tests.search.world import CPU, draw_folder, load_model

COUNT = 24


def queries(ids: list[str], split: str = "val") -> list[QueryRow]:
    """Each picture asked five times; what is wanted is another one."""
    return [
        {
            "query_id": f"{number}-{word}",
            "split": split,
            "category": "all",
            "reference_id": reference,
            "target_id": ids[(number + shift) % len(ids)],
            "captions": [f"is {word}"],
            "members": None,
            "relevant": None,
        }
        for number, reference in enumerate(ids)
        for shift, word in enumerate(("red", "blue", "long", "short", "plain"), 1)
    ]


@pytest.fixture(name="root")
def _root(tmp_path: Path) -> Path:
    draw_folder(tmp_path / "pictures", COUNT)
    return tmp_path


def indexed(root: Path, model: Model) -> Searcher:
    build(root / "index", of_folder(root / "pictures"), model, "exact", 8, 1)
    return Searcher.open(root / "index", CPU)


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> Model:
    return load_model(tmp_path_factory.mktemp("head"), encoder_folder, joins=False)


def ask(searcher: Searcher) -> Query:
    return Query([searcher.reference("a/000.png")], "is red")


def test_an_index_is_calibrated_on_its_own_queries(root: Path, model: Model) -> None:
    searcher = indexed(root, model)
    answer = searcher.search(ask(searcher), 3, left_out=["a/000.png"])
    assert answer.confidence is None
    assert "not calibrated; `rau index --calibrate`" in str(answer.doubt)
    ids = sorted(searcher.index.place)
    made = calibrate(searcher, queries(ids))
    assert (made.queries, made.gallery, made.source) == (5 * COUNT, COUNT - 1, "pictures")
    searcher = Searcher.open(root / "index", CPU)
    answer = searcher.search(ask(searcher), 3, left_out=["a/000.png"])
    assert answer.doubt is None
    assert answer.confidence is not None
    assert len(answer.hits) == 3
    # Pictures are wanted whatever they are: the rates of chance.
    assert answer.confidence.within[1] < 0.3
    # The gallery has fewer than fifty.
    assert answer.confidence.within[50] > 0.97
    whole = searcher.search(ask(searcher), COUNT, left_out=["a/000.png"])
    scores = np.array([hit.score for hit in whole.hits], np.float32)
    assert made.confidence(scores) == whole.confidence == answer.confidence
    for query in (
        Query(ask(searcher).references),
        Query(caption="is red"),
        replace(ask(searcher), without="stripes"),
        replace(ask(searcher), image_weight=0.8),
    ):
        answer = searcher.search(query, 3)
        assert (answer.confidence, answer.doubt) == (
            None,
            "only a picture with a caption was ever checked",
        )


def test_another_gallery_is_said(root: Path, model: Model) -> None:
    searcher = indexed(root, model)
    calibrate(searcher, queries(sorted(searcher.index.place)))
    for path in sorted((root / "pictures").rglob("*.png"))[10:]:
        path.unlink()
    searcher = indexed(root, model)
    assert len(searcher.index) == 10
    answer = searcher.search(ask(searcher))
    assert answer.confidence is None
    assert "fitted on galleries of about 23, this one has 10" in str(answer.doubt)


def test_queries_that_were_trained_on_do_not_count(root: Path, model: Model) -> None:
    searcher = indexed(root, model)
    ids = sorted(searcher.index.place)
    with pytest.raises(UserError, match="0 queries that are not of train"):
        calibrate(searcher, queries(ids, "train"))
    with pytest.raises(UserError, match="50 queries that are not of train"):
        calibrate(searcher, [*queries(ids)[:50], *queries(["x", "y", "z"])])
    assert not (root / "index" / FILE).exists()


def test_the_heads_own_calibration_is_used_for_its_galleries(
    root: Path, tmp_path: Path, encoder_folder: Path
) -> None:
    rng = np.random.default_rng(0)
    scores = -np.sort(-rng.uniform(0, 1, (200, COUNT))).astype(np.float32)
    right = rng.permuted(np.eye(COUNT, dtype=np.bool_)[np.zeros(200, int)], axis=1)
    lists = Lists(scores, right, np.full(200, COUNT))
    head = load_model(tmp_path / "head", encoder_folder, joins=False).folders[1]
    key = digest_file(head / "head.safetensors")
    for source, known in (("pictures", True), ("garments", False)):
        made = fit(lists, key, source)
        assert made is not None
        made.write(head / FILE)
        model = Model.load(encoder_folder, head, CPU)
        shutil.rmtree(root / "index", ignore_errors=True)
        searcher = indexed(root, model)
        assert searcher.calibration == made
        answer = searcher.search(ask(searcher))
        assert (answer.confidence is not None) is known
        if not known:
            assert "fitted on garments, not on pictures" in str(answer.doubt)
    wrong = Calibration.read(head / FILE).model_copy(update={"head": "another"})
    wrong.write(head / FILE)
    with pytest.raises(UserError, match="of another head"):
        Model.load(encoder_folder, head, CPU)
