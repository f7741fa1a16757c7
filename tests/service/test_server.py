"""A real server on this machine and its clients: slow, broken, too many; and how it ends."""

import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from unittest.mock import patch
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import uvicorn

from rau.cli import serve
from rau.errors import UserError
from rau.search.model import Model
from rau.service import routes, server
from rau.service.app import MAX_UPLOAD, create
from rau.service.live import Live
from rau.service.uploads import Upload, Uploads
from tests.places import ROOT
from tests.project import command, environment, error_line
from tests.service.synthetic import served, square


def post(url: str, path: str, body: bytes, kind: str) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of a response."""
    request = Request(f"{url}{path}", body, {"Content-Type": kind})
    try:
        with urlopen(request, timeout=60) as response:
            return response.status, response.read(), lowered(response.headers)
    except HTTPError as error:
        return error.code, error.read(), lowered(error.headers)


def lowered(headers: Message) -> dict[str, str]:
    """Headers by their names in lower case."""
    return {name.lower(): value for name, value in headers.items()}


def search(url: str) -> int:
    """The status of a search."""
    return post(url, "/api/search", b'{"caption": "red", "k": 3}', "application/json")[0]


@contextmanager
def connected(url: str, sent: bytes = b"") -> Iterator[socket.socket]:
    """A connection on which something was sent."""
    port = int(url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(sent)
        yield connection


def head(path: str, *lines: str) -> bytes:
    """The head of a POST."""
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""]).encode()


def test_a_body_is_counted_while_it_is_read(live: Live) -> None:
    """Without a length, or with one that is not true, no more is taken than the limit."""
    chunk = b"10000\r\n" + bytes(2**16) + b"\r\n"
    chunked = head("/api/uploads", "Content-Type: image/png", "Transfer-Encoding: chunked")
    with served(live) as url, connected(url, chunked) as connection:
        for _ in range(MAX_UPLOAD // 2**16 + 1):
            connection.sendall(chunk)
        assert b" 413 " in connection.recv(100)
        assert search(url) == 200
    said = head("/api/search", "Content-Type: application/json", "Content-Length: 99999999999")
    with served(live) as url, connected(url, said) as connection:
        assert b" 413 " in connection.recv(100)


def test_clients_that_stall_are_left_and_hold_nobody_up(live: Live) -> None:
    upload = head("/api/uploads", "Content-Type: image/png", "Content-Length: 1000")
    with (
        served(live, patience=0.5, seconds=1.5) as url,
        connected(url, b"GET / HT") as no_head,
        connected(url) as silent,
        connected(url, upload + b"\x89PNG") as no_body,
    ):
        assert search(url) == 200
        assert no_head.recv(100) == b""
        assert silent.recv(100) == b""
        assert b" 408 " in no_body.recv(100)


def test_clients_that_go_away_leave_nothing_behind(live: Live) -> None:
    upload = head("/api/uploads", "Content-Type: image/png", "Content-Length: 1000")
    with served(live, threads=1, waiting=1) as url:
        for _ in range(20):
            with connected(url, upload + b"\x89PNG"):
                pass
            with connected(url, b"\x00\xff nonsense\r\n\r\n") as odd:
                assert b" 400 " in odd.recv(100)
        assert search(url) == 200
        assert post(url, "/api/uploads", square("red"), "image/png")[0] == 201


def test_uploads_count_as_long_as_they_wait(live: Live) -> None:
    """Their number is limited as well, but so many of the largest would be a gigabyte."""
    begun, go = threading.Event(), threading.Event()
    add = Uploads.add

    def slow(held: Uploads, content: bytes, model: Model) -> Upload:
        begun.set()
        assert go.wait(30)
        return add(held, content, model)

    found: queue.Queue[int] = queue.Queue()

    def send(url: str) -> None:
        found.put(post(url, "/api/uploads", square("red"), "image/png")[0])

    with (
        served(live, threads=1) as url,
        patch.object(Uploads, "add", slow),
        patch.object(routes, "MAX_HELD", len(square("red"))),
    ):
        threads = [threading.Thread(target=send, args=(url,)) for _ in range(2)]
        threads[0].start()
        assert begun.wait(30)
        threads[1].start()
        try:
            assert found.get(timeout=5) == 503
        finally:
            go.set()
            for thread in threads:
                thread.join()
        assert found.get() == 201
        assert post(url, "/api/uploads", square("red"), "image/png")[0] == 201


def test_more_requests_than_may_wait_are_asked_to_come_again(live: Live) -> None:
    """With one at work and one waiting others are refused at once, and then all goes on."""
    go = threading.Event()
    add = Uploads.add

    def slow(held: Uploads, content: bytes, model: Model) -> Upload:
        assert go.wait(30)
        return add(held, content, model)

    found: queue.Queue[int] = queue.Queue()

    def send(url: str) -> None:
        found.put(post(url, "/api/uploads", square("red"), "image/png")[0])

    with served(live, threads=1, waiting=1) as url, patch.object(Uploads, "add", slow):
        threads = [threading.Thread(target=send, args=(url,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        # One of the three had no place: the two others are taken now.
        assert found.get(timeout=30) == 503
        status, body, headers = post(url, "/api/search", b'{"caption": "a"}', "application/json")
        assert (status, headers["retry-after"]) == (503, "1")
        assert "too many" in json.loads(body)["detail"]
        # What does not compute is answered all the same.
        with urlopen(f"{url}/api/health", timeout=30) as response:
            assert response.status == 200
        go.set()
        for thread in threads:
            thread.join()
        assert [found.get(), found.get()] == [201, 201]
        assert search(url) == 200


def test_many_clients_at_once_have_no_errors(live: Live) -> None:
    with served(live) as url, ThreadPoolExecutor(16) as pool:
        assert list(pool.map(search, [url] * 48)) == [200] * 48


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_and_ends_with_a_signal(index: Path, tmp_path: Path, number: int) -> None:
    arguments = ["serve", "--index", str(index), "--port", "0", "--feedback", str(tmp_path / "f")]
    process = subprocess.Popen(
        [sys.executable, "-m", "rau", *arguments],
        cwd=ROOT,
        env=environment() | {"PYTHONUNBUFFERED": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    match = re.search(r" at (http://127\.0\.0\.1:\d+) ", line)
    assert match, line + process.communicate()[1]
    assert process.stdout.readline().startswith("warning: no data set reads feedback from ")
    assert search(match[1]) == 200
    with connected(match[1], b"GET / HT"):
        process.send_signal(number)
        printed, errors = process.communicate(timeout=60)
    assert (process.returncode, printed, errors) == (0, "", "")


def test_a_signal_before_it_serves_ends_it(live: Live) -> None:
    own = uvicorn.Server.run

    def run(self: uvicorn.Server, sockets: list[socket.socket]) -> None:
        signal.raise_signal(signal.SIGTERM)
        own(self, sockets)

    late = threading.Timer(20, os.kill, (os.getpid(), signal.SIGTERM))
    late.start()
    with server.listen("127.0.0.1", 0) as listening, patch.object(uvicorn.Server, "run", run):
        server.run(create(live, ["localhost"], 1), listening)
    assert late.is_alive()
    late.cancel()


def test_names_that_it_goes_by() -> None:
    assert server.names("127.0.0.1", ["search.example"]) == [
        "127.0.0.1",
        "[::1]",
        "localhost",
        "search.example",
    ]
    assert socket.gethostname() in server.names("0.0.0.0", [])
    with pytest.raises(UserError, match="not an address"):
        server.is_loopback("no.such.host.invalid")
    for host in ("300.1.1.1", "no.such.host.invalid", "192.0.2.1", "a..b", "a\udcff"):
        said = f"--host {re.escape(host)} is not an address of this mach"
        with pytest.raises(UserError, match=said):
            server.listen(host, 0)
    with pytest.raises(UserError, match="not an address"):
        server.is_loopback("a\udcff")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--host", "0.0.0.0", "--feedback", "f"), "give --token-file"),
        (("--token-file", "short"), "at least 16"),
        (("--token-file", "nowhere"), "nowhere is missing"),
        (("--index", "nowhere"), "nowhere is not an index"),
        (("--feedback", "short"), "choose another"),
        (("--port", "70000"), "65535"),
    ],
)
def test_a_wrong_command_is_one_line(
    index: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "short").write_text("secret\n")
    given = ("--index", str(index), "--port", "0", *arguments)
    assert said in error_line(command(tmp_path, "serve", *given, code=1))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (b"a-token-of-some-length\n", None),
        (b"secret\n", "at least 16"),
        (b"x" * 50_000, "larger than 1024 bytes; write a token to it"),
    ],
)
def test_a_token_may_come_through_a_pipe(written: bytes, said: str | None) -> None:
    reading, writing = os.pipe()
    os.write(writing, written)
    os.close(writing)
    path = Path(f"/dev/fd/{reading}")
    try:
        if said is None:
            assert serve._token(path) == "a-token-of-some-length"
        else:
            with pytest.raises(UserError, match=said):
                serve._token(path)
    finally:
        os.close(reading)


def test_a_port_that_is_taken_is_said_so(index: Path, tmp_path: Path) -> None:
    with server.listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        printed = command(tmp_path, "serve", "--index", str(index), "--port", port, code=1)
    assert f"port {port}: Address already in use" in printed
