"""The page in a real browser, against a real server."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rau.service.feedback import Feedback
from rau.service.live import Live
from rau.service.uploads import Uploads
from tests.search.synthetic import load_model, make_shop
from tests.service.conftest import TOKEN
from tests.service.synthetic import HOSTILE, served, square
from tests.service.test_feedback import rows

if TYPE_CHECKING:
    from playwright import sync_api
    from playwright.sync_api import Browser, FilePayload, Page
else:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

# The machine may be busy.
SECONDS = 60
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium: apt-get install chromium"
)
FIRST = "#hits .card >> nth=0"


@pytest.fixture(name="browser", scope="module")
def _browser() -> Iterator["Browser"]:
    """One browser for all tests."""
    sync_api.expect.set_options(timeout=1000 * SECONDS)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(name="url")
def _url(live: Live, answers: Path) -> Iterator[str]:
    """A service that keeps answers."""
    with served(live, feedback=Feedback(answers)) as url:
        yield url


@pytest.fixture(name="page")
def _page(browser: "Browser", url: str) -> Iterator["Page"]:
    """The page, which says nothing on the console but what the network does."""
    yield from opened(browser, url)


def opened(browser: "Browser", url: str, **options: Any) -> Iterator["Page"]:
    """A page of a browser of its own."""
    context = browser.new_context(**options)
    context.set_default_timeout(1000 * SECONDS)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto(url)
    page.wait_for_selector(FIRST)
    yield page
    context.close()
    assert [one for one in said if "Failed to load resource" not in one] == []


def file(content: bytes) -> "FilePayload":
    """A picture as a user chooses it."""
    return {"name": "mine.png", "mimeType": "image/png", "buffer": content}


def shown(page: "Page") -> list[str]:
    """The ids of the results, when they are there."""
    sync_api.expect(page.locator("#results")).to_have_attribute("aria-busy", "false")
    return [str(one.get_attribute("data-id")) for one in page.query_selector_all("#hits .card")]


def says(page: "Page", field: str, value: str) -> None:
    """Wait until a field has a value."""
    sync_api.expect(page.locator(field)).to_have_value(value)


def ask(page: "Page", caption: str) -> list[str]:
    """Type what should be different and press Enter."""
    page.fill("#caption", caption)
    page.press("#caption", "Enter")
    return shown(page)


def test_a_search_waits_for_the_picture_that_is_on_its_way(page: "Page") -> None:
    held: list[sync_api.Route] = []
    page.route("**/api/uploads", lambda route: held.append(route))
    with page.expect_request("**/api/uploads"):
        page.set_input_files("#file", files=[file(square("blue", 300))])
    page.fill("#caption", "is red")
    page.press("#caption", "Enter")
    assert "caption" not in page.url
    held[0].continue_()
    page.wait_for_selector("#reference:visible")
    assert len(shown(page)) == 24
    assert "upload=" in page.url
    assert "caption=is+red" in page.url


def test_upload_search_refine_and_go_back(page: "Page", live: Live) -> None:
    """A dialogue: an own picture, words, a result to go on from, a filter, and back again."""
    page.set_input_files("#file", files=[file(square("blue", 300))])
    page.wait_for_selector("#reference:visible")
    assert len(shown(page)) == 24
    assert page.text_content("#ask") == "What should be different?"
    first = ask(page, "is red")
    assert "72 %" in str(page.text_content("#sure"))
    assert "image of the catalogue" in str(page.text_content("#note"))
    assert page.query_selector(".answers") is None
    page.locator("#words").fill("100")
    assert page.text_content("#share") == "100 % words"
    words = shown(page)
    assert "words=100" in page.url
    assert page.locator("#hits .place").all_text_contents() == [str(n) for n in range(1, 25)]

    page.click(f"{FIRST} >> .from")
    says(page, "#caption", "")
    assert words[0] not in shown(page)
    assert page.evaluate("document.activeElement.id") == "caption"
    assert page.locator("#trail li").count() == 1
    ask(page, "is green")
    page.click("summary")
    page.click(".chip:has-text('green')")
    page.wait_for_url("**is.colour=green**")
    green = {f"shop/{number:02}" for number in range(1, 40, 3)}
    assert {*shown(page)} <= green
    page.fill("[aria-label='price, at least']", "1000")
    page.press("[aria-label='price, at least']", "Tab")
    page.wait_for_selector("#unfilter:visible")
    assert page.text_content("#status") == "Nothing found"
    page.click("#unfilter")
    page.wait_for_selector(FIRST)

    page.go_back()
    says(page, "#words", "100")
    assert shown(page) == words != first
    page.go_forward()
    says(page, "#caption", "is green")
    page.click("#trail a")
    says(page, "#caption", "is red")
    assert shown(page) == words
    page.reload()
    page.wait_for_selector(FIRST)
    assert shown(page) == words


def test_the_category_is_a_chip_that_can_be_removed(
    browser: "Browser", tmp_path: Path, encoder_folder: Path
) -> None:
    shop = make_shop(tmp_path, load_model(tmp_path / "head", encoder_folder))
    with served(shop) as url:
        for page in opened(browser, f"{url}/?image=a%2F000.png&caption=is+red"):
            assert len(shown(page)) == 7
            searched = page.locator("#searched")
            assert "among 7 of dress" in str(searched.text_content())
            page.get_by_role("button", name="Search all 11 images").click()
            page.wait_for_url("**any-category=yes**")
            assert len(shown(page)) == 11
            assert "among 11 of any category" in str(searched.text_content())
            page.get_by_role("button", name="Search only the image's category").click()
            page.wait_for_url(lambda address: "any-category" not in address)
            assert len(shown(page)) == 7
            page.click("summary")
            page.click(".chip:has-text('shirt')")
            page.wait_for_url("**is.category=shirt**")
            assert len(shown(page)) == 4
            assert searched.is_hidden()


def test_answers_are_kept_for_pictures_of_the_catalogue(page: "Page", answers: Path) -> None:
    page.click(f"{FIRST} >> .view")
    page.wait_for_selector(".from")
    assert page.query_selector(".answers") is None
    first, second, *_ = ask(page, "=is red,\nreally")
    page.click(f"{FIRST} >> .answers button >> nth=0")
    page.wait_for_selector(f"{FIRST} >> [aria-pressed=true]")
    page.click("#hits .card >> nth=1 >> .answers button >> nth=1")
    page.wait_for_selector(".card[data-said=no]")
    assert "does not match this image" in str(page.text_content("#note"))
    text = "\u00a0=is red, really"
    assert rows(answers) == [[HOSTILE, first, text, "yes"], [HOSTILE, second, text, "no"]]
    # Gone and come back: what was answered is still to be seen.
    page.click("#hits .card >> nth=2 >> .from")
    says(page, "#caption", "")
    page.go_back()
    page.wait_for_selector(".card[data-said=yes]")


def test_a_token_is_asked_for_once(browser: "Browser", live: Live, answers: Path) -> None:
    with served(live, feedback=Feedback(answers), token=TOKEN) as url:
        for page in opened(browser, f"{url}/?image=shop%2F01&caption=is+red"):
            answer = page.locator(".answers button")
            answer.nth(0).click()
            page.fill("#token", "wrong")
            page.press("#token", "Enter")
            says(page, "#token", "")
            page.fill("#token", TOKEN)
            page.click("dialog .primary")
            page.wait_for_selector(".card[data-said=yes]")
            answer.nth(2).click()
            sync_api.expect(page.locator("[data-said=yes]")).to_have_count(2)
    assert len(rows(answers)) == 2


def test_errors_are_said_and_got_over(page: "Page", live: Live) -> None:
    page.set_input_files("#file", files=[file(b"nonsense")])
    page.wait_for_selector("#failure:visible")
    assert "Not an image" in str(page.text_content("#failure"))
    assert not page.is_visible("#again")
    page.route("**/api/search", lambda route: route.abort())
    page.fill("#caption", "red")
    page.click("#query .primary")
    page.wait_for_selector("#again:visible")
    assert "cannot be reached" in str(page.text_content("#failure"))
    page.unroute("**/api/search")
    page.click("#again")
    page.wait_for_selector("#failure", state="hidden")
    assert len(shown(page)) == 24
    # The service forgets a picture: the page sends it again.
    page.set_input_files("#file", files=[file(square("green", 3000))])
    page.wait_for_selector("#reference:visible")
    before = ask(page, "is red")
    held: Uploads = live.now.uploads
    held._held.clear()
    assert ask(page, "is blue") != before
    assert len(held) == 1
    # It is sent no larger than anything looks at.
    assert next(iter(held._held.values())).width == 2048


def test_a_link_that_the_index_no_longer_understands_is_answered(page: "Page") -> None:
    with page.expect_request("**/api/search") as asked:
        page.goto(
            f"{page.url}?caption=red&count=2.5&is.colour=green&least.colour=3&least.price=3"
            "&is.price=4&is.gone=x"
        )
    shown(page)
    assert page.locator("#hits .card").count() == 3
    body = json.loads(str(asked.value.post_data))
    assert body["where"] == '("colour" = \'green\') and "price" >= 3'
    assert body["k"] == 3
    says(page, "[aria-label='price, at least']", "3")
    assert page.is_checked(".chip:has-text('green') input")
    assert page.text_content("#active") == "2"
    page.get_by_role("heading", name="3 images, best first").wait_for()
    page.get_by_role("status").get_by_text("3 images, best first").wait_for()


def test_a_hostile_id_is_text(page: "Page") -> None:
    page.goto(page.url + "?caption=red&count=40")
    page.wait_for_selector(f".card:has-text('{HOSTILE}')")
    names = page.locator(".name").all_text_contents()
    assert HOSTILE in names
    assert page.locator("img[src='x']").count() == 0


def test_a_phone_and_the_dark(browser: "Browser", url: str) -> None:
    phone = {"width": 360, "height": 740}
    background = "getComputedStyle(document.body).backgroundColor"
    for page in opened(
        browser, url, viewport=phone, has_touch=True, is_mobile=True, color_scheme="dark"
    ):
        assert page.evaluate(background) == "rgb(18, 20, 21)"
        page.tap(f"{FIRST} >> .view")
        page.fill("#caption", "is red and has a name that is long")
        page.tap("#query .primary")
        page.wait_for_selector(".answers")
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        # The results have come into view.
        top = page.locator("#status").bounding_box()
        assert top is not None
        assert top["y"] < 200
        for button in page.locator(f"{FIRST} >> .actions button").all():
            box = button.bounding_box()
            assert box is not None
            assert box["height"] >= 44
            assert box["x"] + box["width"] <= 360
        page.emulate_media(color_scheme="light")
        assert page.evaluate(background) == "rgb(246, 246, 243)"


def test_all_can_be_done_by_keyboard(page: "Page") -> None:
    page.keyboard.press("/")
    page.keyboard.type("red")
    page.keyboard.press("Enter")
    assert len(shown(page)) == 24
    for _ in range(60):
        page.keyboard.press("Tab")
        if "from" in page.evaluate("document.activeElement.className"):
            break
    name = page.evaluate("document.activeElement.ariaLabel")
    assert name.startswith("Search from here: ")
    page.keyboard.press("Enter")
    page.wait_for_url("**image=**")
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, a, input, select, textarea')].filter("
        "(one) => !one.ariaHidden && !one.ariaLabel && !one.textContent.trim() &&"
        " !one.labels?.length).map((one) => one.outerHTML)"
    )
    assert unnamed == []
