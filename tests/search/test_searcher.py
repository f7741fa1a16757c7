"""A searcher answers by id, file or bytes, with filters, for any number of threads."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from rau.errors import UserError
from rau.search.model import Query, query_vector
from rau.search.searcher import Searcher
from tests.search.synthetic import CPU, draw, draw_folder, load_model, make_index


@pytest.fixture(name="root", scope="module")
def _root(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> Path:
    root = tmp_path_factory.mktemp("searcher")
    lines = [
        f"{path},{path},{'dress' if n % 2 else 'shirt'},{n}"
        for n, path in enumerate(draw_folder(root / "pictures", 20))
    ]
    (root / "pictures/products.csv").write_text("\n".join(["id,image,category,price", *lines]))
    model = load_model(root / "head", encoder_folder)
    make_index(root / "index", root / "pictures", model)
    return root


@pytest.fixture(name="searcher", scope="module")
def _searcher(root: Path) -> Searcher:
    return Searcher.open(root / "index", CPU)


def test_hits_are_the_gallery_by_cosine(searcher: Searcher) -> None:
    reference = searcher.reference("a/004.png")
    query = Query([reference], "is red")
    vector = query_vector(searcher.model, query, searcher.index.centre).numpy()
    gallery = searcher.index.segments[0].vectors.astype(np.float32)
    order = np.argsort(-(gallery @ vector), kind="stable")
    ids = searcher.index.segments[0].ids.to_pylist()
    answer = searcher.search(query, 5)
    assert [hit.id for hit in answer.hits] == [ids[row] for row in order[:5]]
    scores = [hit.score for hit in answer.hits]
    assert scores == pytest.approx((gallery @ vector)[order[:5]].tolist(), abs=1e-6)
    first = answer.hits[0].id
    # Vectors in float16 are a little longer or shorter than 1; a cosine is not.
    alone = [searcher.search(Query([searcher.reference(name)]), 1).hits[0].score for name in ids]
    assert 0.999 < min(alone) <= max(alone) == 1
    assert answer.hits[0].path == first
    assert answer.hits[0].attributes == searcher.index.attributes(first)
    rest = searcher.search(query, 5, references=[first], any_category=True).hits
    assert [hit.id for hit in rest] == [ids[row] for row in order[1:6]]


def test_a_reference_is_an_id_a_file_or_its_bytes(root: Path, searcher: Searcher) -> None:
    path = root / "pictures/a/004.png"
    ways = [searcher.reference(one) for one in ("a/004.png", path, path.read_bytes())]
    for way in ways[1:]:
        assert torch.allclose(way, ways[0], atol=1e-2)
    draw(root / "elsewhere.png", 3)
    for wrong in (str(root / "elsewhere.png"), "../head/head.safetensors", ""):
        with pytest.raises(UserError, match="the index has no image"):
            searcher.reference(wrong)


def test_an_id_and_a_file_are_asked_together_on_any_device(root: Path, searcher: Searcher) -> None:
    elsewhere = SimpleNamespace(
        device=torch.device("meta"),
        load_images=searcher.model.encoder.load_images,
        encode_images=searcher.model.encoder.encode_images,
    )
    asked = replace(searcher, model=replace(searcher.model, encoder=cast(Any, elsewhere)))
    ways = [asked.reference(one) for one in ("a/004.png", root / "pictures/a/004.png")]
    assert {way.device for way in ways} == {CPU}


def test_a_filter_keeps_its_rows(searcher: Searcher) -> None:
    query = Query(caption="is red")
    hits = searcher.search(query, 20, "category = 'dress' and price < 8").hits
    assert len(hits) == 4
    assert all(h.attributes["category"] == "dress" and h.attributes["price"] < 8 for h in hits)
    assert searcher.search(query, 5, "price > 99").hits == []
    with pytest.raises(
        UserError, match="unknown attribute cost; choose from product, category, price"
    ):
        searcher.search(query, 5, "cost > 99")
    with pytest.raises(UserError, match="k is 0"):
        searcher.search(query, 0)


def test_words_that_are_no_unicode_are_refused(searcher: Searcher) -> None:
    for caption, without, where in (
        ("caf\udce9", "", None),
        ("red", "\ud800", None),
        ("red", "", "category = '\udcff'"),
    ):
        with pytest.raises(UserError, match="the text is not valid Unicode"):
            searcher.ask([], caption, without, where=where)


@pytest.mark.parametrize("weight", [-3, 1.01, float("nan")])
def test_a_weight_that_is_no_share_is_refused(searcher: Searcher, weight: float) -> None:
    with pytest.raises(UserError, match=f"image_weight is {weight}; give a number from 0 to 1"):
        searcher.ask(["a/000.png"], "is red", image_weight=weight)


def test_threads_get_the_same_answers(searcher: Searcher) -> None:
    queries = [Query([searcher.reference(f"a/{n:03}.png")], f"is {n}") for n in range(0, 20, 2)]
    expected = [searcher.search(query, 4) for query in queries]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda query: searcher.search(query, 4), queries * 3)) == expected * 3


def test_an_index_with_another_model_than_its_own_is_refused(
    root: Path, tmp_path: Path, encoder_folder: Path, searcher: Searcher
) -> None:
    copy = shutil.copytree(root / "index", tmp_path / "index")
    other = load_model(tmp_path / "other", encoder_folder, n=0)
    shutil.copy(other.folders[1] / "head.safetensors", copy / "models" / searcher.model.key)
    with pytest.raises(UserError, match="not the model of the index"):
        Searcher.open(copy, CPU)
    shutil.rmtree(copy / "models")
    with pytest.raises(UserError, match=r"models/\w+ is missing; run `rau index` again"):
        Searcher.open(copy, CPU)
    assert not Searcher.open(copy, CPU, loaded=searcher.model).stale
