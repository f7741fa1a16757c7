"""The HTTP client against a server that misbehaves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rau.download.http_client import Client, Refused, Unreachable
from tests import server

CONTENT = bytes(range(256)) * 40
LIMIT = 1 << 20


@pytest.fixture(name="host")
def _host() -> Iterator[server.Server]:
    with server.running() as host:
        host.files["/file"] = CONTENT
        yield host


@pytest.fixture(name="client")
def _client() -> Iterator[Client]:
    with Client(2, backoff=0.01, slowest=1000, patience=0.2, timeout=5) as client:
        yield client


def test_a_file_arrives(host: server.Server, client: Client, tmp_path: Path) -> None:
    client.fetch(f"{host.url}/file", tmp_path / "part", LIMIT)
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert host.asked["GET", "/file"] == 1


@pytest.mark.parametrize("mood", server.PASSING)
def test_what_passes_is_waited_for(
    host: server.Server, client: Client, tmp_path: Path, mood: str
) -> None:
    host.moods["/file"] = mood
    client.fetch(f"{host.url}/file", tmp_path / "part", LIMIT)
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert host.asked["GET", "/file"] == 2


@pytest.mark.parametrize(
    ("mood", "why"),
    [
        ("dead", "status 404"),
        ("endless", "larger than"),
        ("circle", "TooManyRedirects"),
        ("nowhere", "ValueError"),
        ("no name", "LocationParseError"),
    ],
)
def test_a_no_is_a_no(
    host: server.Server, client: Client, tmp_path: Path, mood: str, why: str
) -> None:
    host.moods["/file"] = mood
    with pytest.raises(Refused, match=why):
        client.fetch(f"{host.url}/file", tmp_path / "part", LIMIT)


def test_a_host_that_forbids_may_be_asked_again(
    host: server.Server, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(server.PERMANENT, "forbidden", server.Handler.forbidden)
    host.moods["/file"] = "forbidden"
    with pytest.raises(Unreachable, match="status 403"):
        client.fetch(f"{host.url}/file", tmp_path / "part", LIMIT)


def test_the_limit_holds_whatever_is_declared(
    host: server.Server, client: Client, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match="larger than 100 bytes"):
        client.fetch(f"{host.url}/file", tmp_path / "part", 100)
    assert not (tmp_path / "part").exists()


def test_a_length_of_thousands_of_digits_is_larger(
    host: server.Server, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def boast(handler: server.Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "9" * 5000)
        handler.end_headers()

    monkeypatch.setitem(server.PERMANENT, "boast", boast)
    host.moods["/file"] = "boast"
    with pytest.raises(Refused, match="larger than"):
        client.fetch(f"{host.url}/file", tmp_path / "part", LIMIT)


def test_a_part_is_gone_on_with(host: server.Server, client: Client, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(CONTENT[:5000])
    client.fetch(f"{host.url}/file", tmp_path / "part", LIMIT)
    assert (tmp_path / "part").read_bytes() == CONTENT


@pytest.mark.parametrize("extra", [b"", b"of another file"])
def test_a_whole_part_is_kept_and_a_longer_one_is_not(
    host: server.Server, client: Client, tmp_path: Path, extra: bytes
) -> None:
    (tmp_path / "part").write_bytes(CONTENT + extra)
    client.fetch(f"{host.url}/file", tmp_path / "part", LIMIT)
    assert (tmp_path / "part").read_bytes() == CONTENT


@pytest.mark.parametrize("extra", [{}, {"Content-Range": "bytes */0"}])
def test_a_range_that_was_not_asked_for_is_no_answer(
    host: server.Server,
    client: Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    extra: dict[str, str],
) -> None:
    def odd(handler: server.Handler) -> None:
        handler._send(416, b"", extra)

    monkeypatch.setitem(server.PERMANENT, "odd", odd)
    host.moods["/file"] = "odd"
    with pytest.raises(Unreachable, match="status 416"):
        client.fetch(f"{host.url}/file", tmp_path / "part", LIMIT)


def test_no_server_and_no_url(client: Client, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="ConnectionError"):
        client.fetch("http://127.0.0.1:9/file", tmp_path / "part", LIMIT)
    for url in ("ftp://127.0.0.1/file", "http://", "file:///etc/passwd", "nothing"):
        with pytest.raises(Refused, match=r"InvalidURL|InvalidSchema|MissingSchema"):
            client.fetch(url, tmp_path / "part", LIMIT)
