"""Every card against the annotation files that it speaks of, and copies against the records."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from rau.datasets import verification
from rau.datasets.readers import reader
from rau.datasets.registry import CARDS, CIRR, FASHIONIQ, DatasetCard
from rau.files import digest_file
from tests import circo_data, synthetic
from tests.places import SHARED, needs

# CIRR's train captions are in no copy at hand.
ABSENT = {"captions/cap.rc2.train.json"}


@pytest.mark.parametrize("card", CARDS.values(), ids=list(CARDS))
def test_a_record_is_whole(card: DatasetCard) -> None:
    for files in filter(None, (card.annotations, card.url_tables)):
        assert len(files.revisions[0]) >= 7
        assert all(value is None or len(value) == 64 for value in files.digests.values())
        assert all(url.startswith("https://") for url in files.urls("x"))
    assert card.optional < set(card.annotations.digests)
    for text in (card.homepage, card.licence, card.terms, card.citation):
        assert len(text) > 10


@pytest.mark.parametrize(
    "card", [pytest.param(card, marks=needs(name)) for name, card in CARDS.items()], ids=list(CARDS)
)
def test_digests_and_counts_are_those_of_the_files(card: DatasetCard) -> None:
    root = SHARED / card.name
    for files in filter(None, (card.annotations, card.url_tables)):
        for path, known in files.digests.items():
            assert path in ABSENT or digest_file(root / path) == known
    if card.archives:  # COCO's list of images is not at hand.
        splits = {
            s: json.loads((root / f"annotations/{s}.json").read_text()) for _, s in card.queries
        }
        assert {("all", split): len(rows) for split, rows in splits.items()} == card.queries
        return
    annotations = reader(card.name).read_annotations(root)
    assert len(annotations.image_ids) == card.images
    queries = Counter((q["category"], q["split"]) for q in annotations.queries)
    assert queries == {k: n for k, n in card.queries.items() if k != ("all", "train")}
    gallery = annotations.galleries["original"]
    assert {category: len(ids) for category, ids in gallery.items()} == card.gallery


def test_a_file_may_be_missing_only_where_the_card_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("{}")
    digests = {"a.json": digest_file(path), "b.json": "0" * 64}
    card = replace(CIRR, annotations=replace(CIRR.annotations, digests=digests))
    needed = replace(card, optional=frozenset[str]())
    assert verification.compare(needed, {"a.json": path}).differs == ["b.json"]
    optional = replace(card, optional=frozenset({"b.json"}))
    assert verification.compare(optional, {"a.json": path}).copy == "official"


@needs("fashioniq")
def test_a_copy_of_fashioniq_is_official_until_it_is_changed(tmp_path: Path) -> None:
    files = reader("fashioniq").read_annotations(SHARED / "fashioniq").files
    root = tmp_path / "copy"
    for name, path in files.items():
        copy = root / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)

    def compare() -> verification.Comparison:
        return verification.compare(FASHIONIQ, reader("fashioniq").read_annotations(root).files)

    assert compare() == verification.Comparison("official")
    for kind in ("captions/cap", "image_splits/split"):
        (root / f"{kind}.dress.test.json").unlink()
    assert compare().copy == "official", "the test split changes no number"
    val = root / "captions/cap.shirt.val.json"
    val.write_text(json.dumps(json.loads(val.read_text())[1:]))
    assert compare() == verification.Comparison("custom", ["captions/cap.shirt.val.json"])
    val.unlink()
    assert compare().differs == ["captions/cap.shirt.val.json"]


@needs("cirr")
def test_cirr_without_its_train_captions_is_custom_and_with_them_unverified(
    tmp_path: Path,
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(SHARED / "cirr", root)
    files = reader("cirr").read_annotations(root).files
    assert verification.compare(CIRR, files).differs == ["captions/cap.rc2.train.json"]
    train = root / "captions/cap.rc2.train.json"
    train.write_text("[]")
    found = verification.compare(CIRR, reader("cirr").read_annotations(root).files)
    assert found.copy == "official"
    assert found.unverified == {"captions/cap.rc2.train.json": digest_file(train)}


def test_a_list_of_images_that_lacks_some_makes_a_copy_custom(tmp_path: Path) -> None:
    circo_data.write_annotations(tmp_path, images=20)
    made = replace(circo_data.card("", tmp_path, 20), gallery={"all": 20})
    read = reader("circo").read_annotations(tmp_path)
    assert verification.compare(made, read.files, read.galleries["original"]).copy == "official"
    one = {"all": read.image_ids[1:]}
    assert verification.compare(made, read.files, one).differs == ["the gallery's number of images"]


def test_another_number_of_queries_is_said(tmp_path: Path) -> None:
    queries = [{"category": "all", "split": "val"}] * 4181 + [{"category": "all", "split": "train"}]
    assert verification.unexpected(CIRR, queries) == ["all train: 1 queries, 28,225 expected"]


def test_one_more_file_makes_a_copy_custom(tmp_path: Path) -> None:
    synthetic.write_annotations(tmp_path, 9)
    (tmp_path / "image_url").mkdir()
    for category in synthetic.CATEGORIES:
        (tmp_path / "image_url" / f"asin2url.{category}.txt").touch()
    card = synthetic.card("", tmp_path)
    files = reader("fashioniq").read_annotations(tmp_path).files
    assert verification.compare(card, files).copy == "official"
    extra = tmp_path / "relevance.parquet"
    extra.touch()
    files = {**files, extra.name: extra}
    assert verification.compare(card, files).differs == ["relevance.parquet"]
