"""A search keeps to the category of its references, where they share one."""

from pathlib import Path

import pytest

from rau.search.model import Model
from rau.search.scope import Searched
from rau.search.searcher import Answer, Reference, Searcher
from rau.search.where import MAX_DEPTH
from tests.search.synthetic import CPU, load_model, make_shop

COUNT = 12


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> Model:
    return load_model(tmp_path_factory.mktemp("head"), encoder_folder)


@pytest.fixture(name="searcher", scope="module")
def _searcher(tmp_path_factory: pytest.TempPathFactory, model: Model) -> Searcher:
    return Searcher.open(make_shop(tmp_path_factory.mktemp("scope"), model), CPU)


def categories(answer: Answer) -> list[str]:
    return sorted(hit.attributes["category"] for hit in answer.hits)


def dresses(searcher: Searcher) -> list[str]:
    return [n for n in searcher.index.place if searcher.index.attributes(n)["category"] == "dress"]


def test_references_of_one_category_are_searched_in_it(searcher: Searcher) -> None:
    one, other = dresses(searcher)[:2]
    answer = searcher.ask([one], "is red", k=COUNT)
    assert categories(answer) == ["dress"] * 7
    assert answer.searched == Searched("dress", 7, 11)
    kept = searcher.ask([one], "is red", k=COUNT, keep_references=True)
    assert categories(kept) == ["dress"] * 8
    both = searcher.ask([one, other], "is red", k=COUNT)
    assert (categories(both), both.searched) == (["dress"] * 6, Searched("dress", 6, 10))
    anywhere = searcher.ask([one], "is red", k=COUNT, any_category=True)
    assert categories(anywhere) == ["dress"] * 7 + ["shirt"] * 4
    assert anywhere.searched == Searched(None, 11, 11)
    # The order is the whole index's.
    assert [hit for hit in anywhere.hits if hit.attributes["category"] == "dress"] == answer.hits


def test_a_filter_is_kept_and_one_that_names_the_category_decides(searcher: Searcher) -> None:
    one = dresses(searcher)[0]
    cheap = searcher.ask([one], "is red", k=COUNT, where="price < 2 or price > 6")
    assert [hit.attributes["price"] for hit in cheap.hits if hit.attributes["price"] > 7] == []
    assert cheap.searched == Searched("dress", 2, 6)
    for where in ("not (price < 4 or category != 'shirt')", "category in ('shirt', 'hat')"):
        named = searcher.ask([one], "is red", k=COUNT, where=where)
        assert (categories(named), named.searched) == (["shirt"] * 4, Searched(None, 4, 4))


def test_what_has_no_category_in_common_is_searched_everywhere(
    searcher: Searcher, tmp_path: Path
) -> None:
    one = dresses(searcher)[0]
    shirt = next(name for name in searcher.index.place if name not in dresses(searcher))
    file = searcher.index.thumbnail(one)
    assert file is not None
    asked: list[tuple[list[Reference], int]] = [
        ([one, shirt], 10),
        ([one, file], 11),
        ([file], 12),
        ([], 12),
    ]
    for pictures, count in asked:
        answer = searcher.ask(pictures, "is red", k=COUNT)
        assert answer.searched == Searched(None, count, count)
        assert len(answer.hits) == count


@pytest.mark.parametrize(
    ("column", "kinds"), [("kind", ("dress", "shirt")), ("category", ("dress", "dress"))]
)
def test_without_several_categories_everything_is_searched(
    tmp_path: Path, model: Model, column: str, kinds: tuple[str, str]
) -> None:
    searcher = Searcher.open(make_shop(tmp_path, model, column, kinds), CPU)
    answer = searcher.ask([next(iter(searcher.index.place))], "is red", k=COUNT)
    assert (len(answer.hits), answer.searched) == (11, Searched(None, 11, 11))


def test_lancedb_keeps_to_the_category_too(tmp_path: Path, model: Model) -> None:
    pytest.importorskip("lancedb")
    searcher = Searcher.open(make_shop(tmp_path, model, engine="lancedb"), CPU)
    one = dresses(searcher)[0]
    assert categories(searcher.ask([one], "is red", k=COUNT)) == ["dress"] * 7
    deepest = "not " * (MAX_DEPTH - 1) + "price < 4"
    answer = searcher.ask([one], "is red", k=COUNT, where=deepest)
    assert len(answer.hits) == answer.searched.images == 4
