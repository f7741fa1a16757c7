"""`rau.load` and what it opens: the same answers as the commands give."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import rau
from rau.search.model import Query
from tests.search.synthetic import draw


def test_a_picture_is_asked_with_in_any_form(desk: Path) -> None:
    search = rau.load(desk / "data/index")
    assert len(search) == 12
    file = desk / "photos/a.png"
    query = Query([search.searcher.reference(file)], "is red")
    wanted = [hit.id for hit in search.searcher.search(query, 4).hits]
    with Image.open(file) as opened:
        forms: list[Any] = [file, str(file), [file], opened.convert("RGBA")]
        for form in forms:
            found = search.search(form, "is red", k=4)
            assert [hit.id for hit in found.hits] == wanted
    assert found.frame.id.tolist() == wanted
    assert found.frame.index.tolist() == [1, 2, 3, 4]
    assert found._repr_png_() is not None


def test_grey_levels_of_16_bits_are_those_of_their_file(desk: Path, tmp_path: Path) -> None:
    search = rau.load(desk / "data/index")
    levels = np.random.default_rng(0).integers(0, 2**16, (4, 4), np.uint16)
    picture = Image.fromarray(levels).resize((40, 40), Image.Resampling.NEAREST)
    picture.save(tmp_path / "grey.png")
    assert picture.mode == "I;16"
    scores = [
        [hit.score for hit in search.search(one, "is red", k=12).hits]
        for one in (picture, tmp_path / "grey.png")
    ]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert search.search(Image.new("La", (40, 40)), "is red").hits
    for mode in ("I", "F"):
        with pytest.raises(rau.UserError, match=mode):
            search.search(Image.new(mode, (40, 40)), "is red")


def test_attributes_leave_the_columns_of_a_frame(desk: Path) -> None:
    found = rau.load(desk / "data/index").search("a/000.png", k=2)
    named = {"rank": 7, "id": "x", "score": "high", "price": 3}
    hits = [replace(hit, attributes=named) for hit in found.hits]
    frame = replace(found, hits=hits).frame
    assert frame.index.tolist() == [1, 2]
    assert frame.id.tolist() == [hit.id for hit in hits]
    assert frame.columns.tolist() == [
        *("id", "score", "attribute.rank", "attribute.id", "attribute.score", "price")
    ]


def test_the_picture_asked_with_is_an_answer_only_where_it_may_be(desk: Path) -> None:
    search = rau.load(desk / "data/index")
    kept = search.search("a/000.png", k=12, keep_references=True)
    others = [hit.id for hit in search.search("a/000.png", k=12).hits]
    ids = [hit.id for hit in kept.hits]
    assert "a/000.png" in ids
    assert others == [name for name in ids if name != "a/000.png"]


def test_the_strip_shows_the_reference_and_the_answers(desk: Path, tmp_path: Path) -> None:
    draw(tmp_path / "reference.png", 500)
    with Image.open(tmp_path / "reference.png") as reference:
        found = rau.load(desk / "data/index").search(reference, "is red", k=2)
        corner = np.asarray(found.strip.crop((0, 0, 112, 112)))
        colours = {tuple(colour) for colour in np.asarray(reference.convert("RGB")).reshape(-1, 3)}
    assert len(colours & {tuple(colour) for colour in corner.reshape(-1, 3)}) > 8


def test_a_filter_that_nothing_passes_finds_nothing(desk: Path) -> None:
    found = rau.load(desk / "data/index").search("a/000.png", where="price > 100")
    assert found.hits == []
    assert found.frame.empty


def test_a_trained_run_searches_its_val_gallery(
    built_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(built_project)
    search = rau.load()
    data = rau.datasets.read("garments", next((built_project / "data/raw").iterdir()))
    gallery = data.galleries.query("gallery == 'original'").image_id
    assert {*search.searcher.index.place} == {*gallery}
    found = search.search(gallery.iloc[0], "is red", k=3)
    assert len(found.hits) == 3
    again = rau.load(built_project)
    assert again.searcher.index.folder == search.searcher.index.folder
