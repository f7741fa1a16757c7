"""A search says how sure it is where that was checked, and why not elsewhere."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rau.errors import UserError
from rau.evaluation.calibration import FILE, Calibration, Lists, fit, of_dataset
from rau.files import digest_file, write_json
from rau.schemas import QueryRow
from rau.search.build import build
from rau.search.calibrate import _vectors, calibrate
from rau.search.catalogue import of_folder
from rau.search.index import EngineName
from rau.search.model import Model, Query
from rau.search.searcher import Searcher
from tests.search.synthetic import CPU, draw_folder, load_model, query_row

COUNT = 24


def queries(ids: list[str], split: str = "val") -> list[QueryRow]:
    """Each picture asked five times; what is wanted is another one."""
    return [
        query_row(
            f"{number}-{word}", reference, ids[(number + shift) % len(ids)], [f"is {word}"], split
        )
        for number, reference in enumerate(ids)
        for shift, word in enumerate(("red", "blue", "long", "short", "plain"), 1)
    ]


@pytest.fixture(name="root")
def _root(tmp_path: Path) -> Path:
    draw_folder(tmp_path / "pictures", COUNT)
    return tmp_path


def indexed(root: Path, model: Model, engine: EngineName = "exact", source: str = "") -> Searcher:
    catalogue = of_folder(root / "pictures")
    own = replace(catalogue, source=source or catalogue.source)
    build(root / "index", own, model, engine, 8, 1)
    return Searcher.open(root / "index", CPU)


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> Model:
    return load_model(tmp_path_factory.mktemp("head"), encoder_folder, joins=False)


def ask(searcher: Searcher) -> Query:
    return Query([searcher.reference("a/000.png")], "is red")


def test_an_index_is_calibrated_on_its_own_queries(root: Path, model: Model) -> None:
    searcher = indexed(root, model)
    answer = searcher.search(ask(searcher), 3, references=["a/000.png"])
    assert answer.confidence is None
    assert "not calibrated; `rau index --calibrate`" in str(answer.confidence_unavailable)
    ids = sorted(searcher.index.place)
    made = calibrate(searcher, queries(ids))
    assert (made.queries, made.gallery, made.source) == (5 * COUNT, COUNT - 1, "folder pictures")
    searcher = Searcher.open(root / "index", CPU)
    answer = searcher.search(ask(searcher), 3, references=["a/000.png"])
    assert answer.confidence_unavailable is None
    assert answer.confidence is not None
    assert len(answer.hits) == 3
    # Pictures are wanted whatever they are: the rates of chance.
    assert answer.confidence.probability_at_k[1] < 0.3
    # The gallery has fewer than fifty.
    assert answer.confidence.probability_at_k[50] > 0.97
    whole = searcher.search(ask(searcher), COUNT, references=["a/000.png"])
    scores = np.array([hit.score for hit in whole.hits], np.float32)
    assert whole.confidence == answer.confidence
    assert answer.confidence.probability_at_k == made.confidence(scores).probability_at_k
    for query in (
        Query(ask(searcher).references),
        Query(caption="is red"),
        replace(ask(searcher), without="stripes"),
        replace(ask(searcher), image_weight=0.8),
    ):
        answer = searcher.search(query, 3)
        assert (answer.confidence, answer.confidence_unavailable) == (
            None,
            "it was only validated for a single reference image with a caption",
        )


def test_a_reference_that_may_be_an_answer_leaves_the_confidence_as_it_is(
    root: Path, model: Model
) -> None:
    searcher = indexed(root, model)
    calibrate(searcher, queries(sorted(searcher.index.place)))
    searcher = Searcher.open(root / "index", CPU)
    shown, kept = (
        searcher.ask(["a/000.png"], "is red", k=COUNT, keep_references=keep)
        for keep in (False, True)
    )
    assert len(kept.hits) == len(shown.hits) + 1 == COUNT
    assert kept.confidence == shown.confidence is not None


@pytest.mark.parametrize("joins", [False, True])
def test_what_is_calibrated_is_what_is_asked(
    root: Path, tmp_path: Path, encoder_folder: Path, joins: bool
) -> None:
    searcher = indexed(root, load_model(tmp_path / "own", encoder_folder, joins=joins))
    (query,) = queries(sorted(searcher.index.place))[:1]
    query = {**query, "captions": ["is red."]}
    (vector,) = _vectors(searcher, [query])
    reference = searcher.reference(str(query["reference_id"]))
    (asked,) = searcher.model.encode_query(reference, ["is red."])
    assert torch.allclose(vector, asked, atol=1e-5)


def test_another_engine_is_said(root: Path, model: Model) -> None:
    pytest.importorskip("lancedb")
    searcher = indexed(root, model)
    calibrate(searcher, queries(sorted(searcher.index.place)))
    searcher = indexed(root, model, "lancedb")
    answer = searcher.search(ask(searcher))
    assert answer.confidence is None
    reason = str(answer.confidence_unavailable)
    assert "answers of the engine exact, not of lancedb; `rau index --cal" in reason
    calibrate(searcher, queries(sorted(searcher.index.place)))
    assert searcher.stale
    searcher = indexed(root, model, "lancedb")
    assert searcher.search(ask(searcher)).confidence_unavailable is None
    searcher = indexed(root, model, "exact")
    assert "answers of the engine lancedb, not of exact" in str(
        searcher.search(ask(searcher)).confidence_unavailable
    )


def test_a_file_that_names_no_engine_is_of_exact_answers(root: Path, model: Model) -> None:
    searcher = indexed(root, model)
    made = calibrate(searcher, queries(sorted(searcher.index.place)))
    write_json(root / "index" / FILE, made.model_dump(exclude={"engine"}))
    assert Searcher.open(root / "index", CPU).calibration == made


def test_another_gallery_is_said(root: Path, model: Model) -> None:
    searcher = indexed(root, model)
    calibrate(searcher, queries(sorted(searcher.index.place)))
    for path in sorted((root / "pictures").rglob("*.png"))[9:]:
        path.unlink()
    searcher = indexed(root, model)
    assert len(searcher.index) == 9
    answer = searcher.search(ask(searcher))
    assert answer.confidence is None
    assert "fitted on galleries of about 23, this one has 9;" in str(answer.confidence_unavailable)


def test_a_filter_that_keeps_the_reference_out_counts_what_it_passes(
    root: Path, model: Model
) -> None:
    lines = [f"a/{n:03}.png,{n}" for n in range(0, COUNT, 2)]
    (root / "pictures/products.csv").write_text("\n".join(["image,price", *lines]))
    searcher = indexed(root, model)
    calibrate(searcher, queries(sorted(searcher.index.place)) * 2)
    searcher = Searcher.open(root / "index", CPU)
    query = Query([searcher.reference("a/000")], "is red")
    for where, count in (("price > 99", 0), ("price > 18", 2), ("price < 4", 1)):
        answer = searcher.search(query, 5, where, ["a/000"])
        assert len(answer.hits) == count
        assert f"this one has {count};" in str(answer.confidence_unavailable)


def test_categories_are_calibrated_as_they_are_searched(root: Path, model: Model) -> None:
    """A category is a gallery; what looks at several of them was never checked."""
    lines = [f"a/{n:03}.png,{'dress' if n < 16 else 'shirt'}" for n in range(0, COUNT, 2)]
    lines += [f"b/{n:03}.png,{'dress' if n < 15 else 'shirt'}" for n in range(1, COUNT, 2)]
    (root / "pictures/products.csv").write_text("\n".join(["image,category", *lines]))
    searcher = indexed(root, model)
    dresses = [name for name in sorted(searcher.index.place) if int(name[2:]) < 15]
    made = calibrate(searcher, queries(dresses) * 2)
    assert made.gallery == 14
    searcher = Searcher.open(root / "index", CPU)
    assert searcher.ask(["a/000"], "is red").confidence
    assert searcher.ask(["a/000"], "is red", where="category = 'dress'").confidence
    file = root / "pictures/a/000.png"
    assert searcher.ask([file], "is red", where="category = 'dress'").confidence
    several = "it was only validated for searches within one category"
    assert searcher.ask(["a/000"], "is red", any_category=True).confidence_unavailable == several
    assert searcher.ask([file], "is red").confidence_unavailable == several
    for where in ("category in ('dress', 'shirt')", "category != 'hat'", "category is not null"):
        for one in ("a/000", file):
            assert searcher.ask([one], "is red", where=where).confidence_unavailable == several
    assert searcher.ask(["a/000"], "is red", where="category in ('dress', 'hat')").confidence


def test_queries_that_were_trained_on_do_not_count(root: Path, model: Model) -> None:
    searcher = indexed(root, model)
    ids = sorted(searcher.index.place)
    with pytest.raises(UserError, match="only 0 queries outside the train split"):
        calibrate(searcher, queries(ids, "train"))
    with pytest.raises(UserError, match="only 50 queries outside the train split"):
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
    (root / "queries").write_bytes(b"one")
    own = of_dataset("pictures", root / "queries")
    (root / "queries").write_bytes(b"other")
    other = of_dataset("pictures", root / "queries")
    for fitted, indexed_as, reason in (
        (own, own, None),
        (own, other, f"fitted on {own}, not on {other}"),
        (own, "", f"fitted on {own}, not on folder pictures"),
        ("pictures", "pictures", "by an older version that did not record its images"),
    ):
        made = fit(lists, key, fitted)
        assert made is not None
        made.write(head / FILE)
        model = Model.load(encoder_folder, head, CPU)
        shutil.rmtree(root / "index", ignore_errors=True)
        searcher = indexed(root, model, source=indexed_as)
        assert searcher.calibration == made
        answer = searcher.search(ask(searcher))
        assert (answer.confidence is None) is (reason is not None)
        assert str(reason) in str(answer.confidence_unavailable)
    Calibration.read(head / FILE).model_copy(update={"source": own}).write(head / FILE)
    searcher = indexed(root, Model.load(encoder_folder, head, CPU), source=own)
    assert searcher.search(ask(searcher)).confidence is not None, "the index has the old copy"
    wrong = Calibration.read(head / FILE).model_copy(update={"head": "another"})
    wrong.write(head / FILE)
    with pytest.raises(UserError, match="of another head"):
        Model.load(encoder_folder, head, CPU)
