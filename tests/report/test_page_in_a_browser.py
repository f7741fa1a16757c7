"""The page in a real browser: the filter, no request, and no scrolling sideways at any width."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from rau.report.examples import Example, Ranked, picture
from tests.report.test_report import metrics, page_of

if TYPE_CHECKING:
    from playwright import sync_api
    from playwright.sync_api import Browser, Page
else:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium: apt-get install chromium"
)
RESULTS = {1: "success", 5: "near miss", None: "failure"}


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    Image.new("RGB", (30, 60), "grey").save(folder / "a.png")
    data = picture(folder / "a.png")
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
    (folder / "index.html").write_text(page_of(metrics(), shown=shown), encoding="utf-8")
    return folder / "index.html"


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
    page.get_by_label("show all of them").check()
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


@pytest.mark.parametrize("width", [1200, 800, 390])
def test_nothing_scrolls_sideways(browser: "Browser", page_file: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(page_file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.close()
