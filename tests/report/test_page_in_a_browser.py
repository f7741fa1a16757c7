"""Pages in a real browser: the filter, print, no request, no scrolling sideways at any width."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from rau.evaluation.comparison import compare
from rau.methods import METHODS
from rau.report import comparison_page
from rau.report.examples import Example, Ranked, thumbnail_data
from rau.studies import registry, study_page
from tests.evaluation.test_comparison import row, side
from tests.report.test_report import document, metrics, page_of
from tests.studies.synthetic import study_tables

if TYPE_CHECKING:
    from playwright import sync_api
    from playwright.sync_api import Browser, Page
else:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium: apt-get install chromium"
)
# Names of the tables and figures that are wider than their place.
WIDER = """[...document.querySelectorAll("[role=region]")]
    .filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.ariaLabel)"""
RESULTS = {1: "success", 5: "near miss", None: "failure"}


BASELINES = ("raw_sum", "image_only", "text_only", "sum", "weighted_sum", "deterministic")


def run_html(folder: Path) -> str:
    """The page of a run with every baseline and twelve queries."""
    Image.new("RGB", (30, 60), "grey").save(folder / "a.png")
    data = thumbnail_data(folder / "a.png")
    shown = [
        Example(
            f"{category}-{rank}-{copy}",
            category,
            "is red",
            RESULTS[rank],
            rank,
            None,
            data,
            [Ranked("a", data, 0.5, "target", "target")] * 10,
        )
        for category in ("dress", "shirt")
        for rank in RESULTS
        for copy in range(2)
    ]
    labels = [METHODS[name].label for name in BASELINES]
    (scores,), (ends,) = (document()[n].values() for n in ("baselines", "baseline_intervals"))
    found = metrics(
        baselines=dict.fromkeys(labels, scores), baseline_intervals=dict.fromkeys(labels, ends)
    )
    return page_of(found, shown=shown)


def comparison_html() -> str:
    """The page of a comparison of two categories."""
    ranks = ((1, 60, 9, 5), (70, 2, 9, 6))
    a, b = (
        side(name, [row(f"q{i}", r, category=("dress", "shirt")[i % 2]) for i, r in enumerate(own)])
        for name, own in zip("ab", ranks, strict=True)
    )
    return comparison_page.render(compare(a, b, 100, 5), comparison_page.Images())


def studies_html() -> str:
    """The page of one study, with a figure and the longest title."""
    tables = study_tables()
    section = study_page.section(tables, registry.load("theta").figure(tables), None)
    title = max((registry.load(name).title for name in registry.STUDIES), key=len)
    return study_page.render({"dataset": "garments"}, [section | {"title": title}])


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    made = {"run": run_html(folder), "comparison": comparison_html(), "studies": studies_html()}
    for name, html in made.items():
        (folder / f"{name}.html").write_text(html, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in made}


@pytest.fixture
def page_file(pages: dict[str, Path]) -> Path:
    return pages["run"]


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def visible(page: "Page") -> int:
    return page.locator(".query:visible").count()


def test_filter(browser: "Browser", page_file: Path) -> None:
    page = browser.new_page()
    requests: list[str] = []
    faults: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: faults.append(message.text))
    page.goto(page_file.as_uri())
    assert visible(page) == 6
    page.get_by_label("show all").check()
    assert visible(page) == 12
    page.get_by_label("category").select_option("shirt")
    assert visible(page) == 6
    page.get_by_label("result").select_option("near miss")
    assert visible(page) == 2
    page.get_by_label("rank of the target at most").fill("4")
    assert visible(page) == 0
    page.get_by_label("result").select_option("all")
    assert visible(page) == 2
    assert page.locator("output").inner_text() == "2 of 2 shown"
    assert [url for url in requests if not url.startswith("data:")] == [page_file.as_uri()]
    assert faults == []
    page.close()


def test_without_script_every_query_is_shown(browser: "Browser", page_file: Path) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto(page_file.as_uri())
    assert visible(page) == 12
    assert page.locator("form:visible").count() == 0
    page.close()


def test_print_opens_results_and_neither_values_nor_parameters(
    browser: "Browser", page_file: Path
) -> None:
    page = browser.new_page()
    page.goto(page_file.as_uri())
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.get_by_role("region", name="methods, shirt").first.is_visible()
    assert page.get_by_role("region", name="values of Methods under").count() == 0
    assert page.get_by_role("region", name="parameters").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert page.get_by_role("region", name="methods, shirt").count() == 0
    page.close()


@pytest.mark.parametrize("name", ["run", "comparison", "studies"])
@pytest.mark.parametrize("width", [1200, 800, 390])
def test_nothing_scrolls_sideways(
    browser: "Browser", pages: dict[str, Path], name: str, width: int
) -> None:
    """The page does not at any width, nor does a table beside it on a desk's screen."""
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(pages[name].as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    if width == 1200:
        assert page.evaluate(WIDER) == []
    page.close()
