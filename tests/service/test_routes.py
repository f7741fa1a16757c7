"""The API, without a network."""

import io
from pathlib import Path
from typing import Any, NoReturn

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from rau.search.model import Query
from rau.search.searcher import Searcher
from rau.service.app import FILES, MAX_JSON, MAX_UPLOAD, create
from rau.service.feedback import Feedback
from rau.service.guard import HEADERS
from rau.service.live import Live
from tests.image_files import saved
from tests.service.conftest import TOKEN
from tests.service.synthetic import HOSTILE, square

PNG = {"Content-Type": "image/png"}


def search(client: TestClient, **asked: Any) -> list[dict[str, Any]]:
    """The hits of a query."""
    answer = client.post("/api/search", json=asked)
    assert answer.status_code == 200, answer.text
    hits: list[dict[str, Any]] = answer.json()["hits"]
    return hits


def detail(client: TestClient, status: int, **asked: Any) -> str:
    """Why a query is refused."""
    answer = client.post("/api/search", json=asked)
    assert answer.status_code == status, answer.text
    return str(answer.json()["detail"])


def test_a_search_is_the_searchers(client: TestClient, live: Live) -> None:
    hits = search(client, references=["shop/04"], caption="is red", k=5, image_weight=0.7)
    searcher = live.now.searcher
    query = Query([searcher.reference("shop/04")], "is red", image_weight=0.7)
    expected = searcher.search(query, 5, references=["shop/04"]).hits
    assert [hit["id"] for hit in hits] == [hit.id for hit in expected]
    assert [hit["score"] for hit in hits] == pytest.approx([hit.score for hit in expected])
    assert hits[0]["attributes"] == expected[0].attributes
    without = search(client, references=["shop/04"], caption="is red", without="dots", k=40)
    assert [hit["id"] for hit in without] != [hit["id"] for hit in search(client, caption="red")]


def test_an_answer_says_how_sure_it_is(client: TestClient) -> None:
    asked = {"references": ["shop/04"], "caption": "is red"}
    sure = client.post("/api/search", json=asked).json()
    assert sure["confidence"]["probability_at_k"] == {"1": 0.72, "5": 0.72, "10": 0.72, "50": 0.72}
    assert 15 < sure["confidence"]["prediction_set_size"] < 25
    assert sure["confidence_unavailable"] is None
    assert sure["searched"] == {"category": None, "images": 39, "images_any_category": 39}
    unsure = client.post("/api/search", json=asked | {"without": "dots"}).json()
    assert unsure["confidence"] is None
    assert "only validated for a single reference image" in unsure["confidence_unavailable"]


def test_a_filter_and_the_reference_itself(client: TestClient) -> None:
    asked = {"references": ["shop/04"], "where": "colour = 'green' and price < 20", "k": 40}
    found = {hit["id"] for hit in search(client, **asked)}
    assert found == {f"shop/{number:02}" for number in (1, 7, 10, 13, 16, 19)}
    assert "shop/04" in {hit["id"] for hit in search(client, **asked, keep_references=True)}
    assert search(client, references=["shop/04"], where="price < 0") == []


def test_an_upload_is_searched_with_as_the_file_is(client: TestClient, live: Live) -> None:
    content = square("blue", 700)
    sent = client.post("/api/uploads", content=content, headers=PNG)
    assert sent.status_code == 201
    upload = sent.json()
    assert (upload["width"], upload["height"]) == (700, 700)
    hits = search(client, uploads=[upload["id"]], caption="is red", k=3)
    searcher = live.now.searcher
    expected = searcher.search(Query([searcher.reference(content)], "is red"), 3).hits
    assert [hit["id"] for hit in hits] == [hit.id for hit in expected]
    shown = client.get(f"/api/uploads/{upload['id']}")
    assert shown.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(shown.content)).size == (512, 512)
    assert client.post("/api/uploads", content=content, headers=PNG).json() == upload


def test_an_upload_that_was_dropped_is_said_to_be(client: TestClient) -> None:
    assert "upload it again" in detail(client, 404, uploads=["0" * 64], caption="is red")
    assert client.get(f"/api/uploads/{'0' * 64}").status_code == 404


def bomb() -> bytes:
    """A small file of many pixels."""
    return saved(Image.new("1", (10_000, 7_000)), "PNG")


@pytest.mark.parametrize(
    ("content", "kind", "status", "said"),
    [
        (b"nonsense", "image/png", 422, "not an image"),
        (square("red")[:60], "image/png", 422, "damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "image/eps", 422, "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", 422, "not an image"),
        (bomb(), "image/png", 422, "more than 64 megapixels"),
        (square("red"), "text/plain", 415, "Content-Type"),
        (saved(Image.new("RGB", (4000, 9)), "PNG"), "image/png", 422, "more than 100 times"),
        (bytes(MAX_UPLOAD + 1), "image/png", 413, "larger than"),
        (b"", "image/png", 422, "not an image"),
    ],
    ids=["nonsense", "cut", "eps", "svg", "bomb", "type", "line", "large", "empty"],
)
def test_what_is_no_picture_is_refused(
    client: TestClient, content: bytes, kind: str, status: int, said: str
) -> None:
    answer = client.post("/api/uploads", content=content, headers={"Content-Type": kind})
    assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text


def test_a_body_that_is_no_json_is_one_sentence(client: TestClient) -> None:
    for body, said in ((b"{", "the body is not valid JSON: Expecting"), (b"", "Field required")):
        headers = {"Content-Type": "application/json"}
        answer = client.post("/api/search", content=body, headers=headers)
        assert answer.status_code == 422
        assert said in answer.json()["detail"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "the query is empty"),
        ({"caption": " "}, "the query is empty"),
        ({"references": ["nothing"]}, "the index has no image nothing"),
        ({"references": ["../../etc/passwd"]}, "the index has no image"),
        ({"uploads": ["../index.json"]}, "uploads.0: String should match"),
        ({"caption": "red", "where": "price <"}, "filter, character 8"),
        ({"caption": "red", "where": "size = 3"}, "unknown attribute size"),
        ({"caption": "red", "k": 0}, "k: Input should be greater"),
        ({"caption": "red", "k": 1001}, "k: Input should be less"),
        ({"caption": "x" * 1001}, "caption: String should have at most 1000"),
        ({"references": ["shop/01"] * 9}, "references: List should have at most 8"),
        ({"caption": "red", "image_weight": 2}, "image_weight: "),
        ({"caption": "red", "engine": "exact"}, "engine: Extra inputs"),
    ],
)
def test_a_wrong_search_is_one_sentence(
    client: TestClient, asked: dict[str, Any], said: str
) -> None:
    assert said in detail(client, 422, **asked)


def test_a_body_that_is_no_json(client: TestClient) -> None:
    kind = {"Content-Type": "application/json"}
    for content in (b"{", b"[]", b"[" * 60_000, b"\xff", rb'{"caption": "\ud800"}'):
        answer = client.post("/api/search", content=content, headers=kind)
        assert answer.status_code in (400, 422), answer.text
    large = client.post("/api/search", content=bytes(MAX_JSON + 1), headers=kind)
    assert large.status_code == 413
    for length in ("9" * 5000, "0" * 5000, "-1", "", "five"):
        headers = kind | {"Content-Length": length}
        assert client.post("/api/search", content=b"{}", headers=headers).status_code == 413
    # A form of another site could send this type without being asked.
    plain = client.post(
        "/api/search", content=b'{"caption": "red"}', headers={"Content-Type": "text/plain"}
    )
    assert plain.status_code == 422


def test_pictures_are_shown_by_id_alone(client: TestClient, live: Live) -> None:
    for name in ("shop/01", HOSTILE):
        shown = client.get("/api/image", params={"id": name})
        assert shown.content == live.now.searcher.index.thumbnail(name)
        assert shown.headers["content-type"] == "image/jpeg"
    for name in ("../index.json", "/etc/passwd", "shop", "shop/01\0"):
        assert client.get("/api/image", params={"id": name}).status_code == 404


def test_the_index_says_what_can_be_asked_for(client: TestClient) -> None:
    about = client.get("/api/index").json()
    assert about["images"] == 40
    assert about["filters"] == [
        {"kind": "text", "attribute": "colour", "values": ["blue", "green", "red"]},
        {"kind": "number", "attribute": "price", "low": 0.5, "high": 39.5},
        {"kind": "boolean", "attribute": "new"},
        {"kind": "list", "attribute": "tags", "values": ["plain", "small"]},
    ]
    assert len(about["examples"]) == 12
    assert (about["feedback"], about["token"]) == (True, False)


def test_feedback_is_kept_for_pictures_of_the_index(client: TestClient, answers: Path) -> None:
    given = {"reference": "shop/01", "target": "shop/02", "caption": "is red", "accepted": True}
    assert client.post("/api/feedback", json=given).status_code == 201
    (path,) = answers.glob("*.csv")
    rows = path.read_text().splitlines()
    assert rows == ["reference,target,caption,accepted", "shop/01,shop/02,is red,yes"]
    for wrong in ({"target": "nothing"}, {"target": "shop/01"}, {"caption": " "}, {"caption": "?"}):
        refused = client.post("/api/feedback", json=given | wrong)
        assert refused.status_code == 422, refused.text
    assert path.read_text().splitlines() == rows


def test_feedback_takes_the_token(live: Live, answers: Path) -> None:
    given = {"reference": "shop/01", "target": "shop/02", "caption": "is red", "accepted": False}
    app = create(live, ["127.0.0.1"], feedback=Feedback(answers), token=TOKEN)
    with TestClient(app, "http://127.0.0.1") as client:
        for said in ("", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer \u00e9"):
            headers = {b"Authorization": said.encode("latin-1")}
            refused = client.post("/api/feedback", json=given, headers=headers)
            assert refused.status_code == 401
        assert not [*answers.iterdir()]
        headers = {b"Authorization": f"Bearer {TOKEN}".encode()}
        assert client.post("/api/feedback", json=given, headers=headers).status_code == 201
        assert client.get("/api/index").json()["token"]


def test_without_a_folder_there_is_no_feedback(live: Live) -> None:
    with TestClient(create(live, ["127.0.0.1"]), "http://127.0.0.1") as client:
        assert client.post("/api/feedback", json={}).status_code == 404
        assert not client.get("/api/index").json()["feedback"]


def test_feedback_that_cannot_be_written_is_said_so(client: TestClient, answers: Path) -> None:
    given = {"reference": "shop/01", "target": "shop/02", "caption": "is red", "accepted": True}
    answers.rmdir()
    answers.touch()
    failed = client.post("/api/feedback", json=given)
    assert failed.status_code == 507
    assert "could not be stored" in failed.json()["detail"]


def test_a_fault_of_the_service_is_one_sentence_without_its_inside(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> NoReturn:
        raise ZeroDivisionError("an inside")

    monkeypatch.setattr(Searcher, "search", broken)
    app = create(live, ["127.0.0.1"])
    with TestClient(app, "http://127.0.0.1", raise_server_exceptions=False) as client:
        failed = client.post("/api/search", json={"caption": "red"})
    assert failed.status_code == 500
    assert failed.json() == {"detail": "internal error; see the log of the service"}
    assert all(failed.headers[name] == value for name, value in HEADERS.items())


def test_the_figures(client: TestClient) -> None:
    search(client, caption="red")
    detail(client, 422)
    client.get("/nowhere/at/all")
    client.get(f"/api/uploads/{'0' * 64}")
    text = client.get("/api/metrics").text
    for line in (
        'rau_requests_total{route="/api/search",status="200"} 1.0',
        'rau_requests_total{route="/api/search",status="422"} 1.0',
        'rau_requests_total{route="other",status="404"} 1.0',
        'rau_requests_total{route="/api/uploads/{name}",status="404"} 1.0',
        'rau_request_seconds_count{route="/api/search"} 2.0',
        "rau_index_images 40.0",
    ):
        assert line in text
    assert client.get("/api/health").json() == {"images": 40, "stale": False}


def test_every_route_is_documented(client: TestClient) -> None:
    paths = client.get("/api/openapi.json").json()["paths"]
    assert {*paths} == {
        "/api/index",
        "/api/search",
        "/api/uploads",
        "/api/uploads/{name}",
        "/api/image",
        "/api/feedback",
        "/api/health",
        "/api/metrics",
    }


def test_the_page_and_all_its_files_are_its_own(client: TestClient) -> None:
    page = client.get("/").text
    for name in FILES:
        found = client.get("/" if name == "page.html" else f"/{name}")
        assert found.status_code == 200
        assert not {"//cdn", "https://", "eval("} & {*found.text.split('"')}
    assert "<style" not in page
    assert 'style="' not in page
    assert "onclick" not in page


@pytest.mark.parametrize("path", ["/", "/api/index", "/nowhere", "/api/image?id=x", "/page.js"])
def test_every_response_has_the_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    for name, value in HEADERS.items():
        assert headers[name] == value
    assert "unsafe" not in headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://127.0.0.1:9000"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": "127.0.0.1:9000"}, 200),
        ({"Host": "[127.0.0.1]"}, 400),
        ({"Host": "127.0.0.1:9000:1"}, 400),
        ({"Host": ""}, 400),
        ({"Host": "evil.example"}, 400),
        ({"Host": "127.0.0.1.evil.example:8000"}, 400),
    ],
)
def test_other_sites_ask_in_vain(client: TestClient, headers: dict[str, str], status: int) -> None:
    answer = client.post("/api/search", json={"caption": "red"}, headers=headers)
    assert answer.status_code == status
    assert status == 200 or len(answer.json()["detail"]) > 20
