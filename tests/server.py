"""A server on 127.0.0.1 that stands in for GitHub, the Hugging Face hub and image hosts, and
misbehaves on purpose."""

import hashlib
import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PAGE = b"<html><body>Sorry! We couldn't find that page.</body></html>"


def free_port() -> int:
    """A port of 127.0.0.1 at which nobody listens now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Handler(BaseHTTPRequestHandler):
    """Answers from the server's `files` (path to bytes or Path) in the manner of its `moods`."""

    protocol_version = "HTTP/1.1"
    # Else a body waits 40 ms for the client to acknowledge its headers.
    disable_nagle_algorithm = True
    server: "Server"

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Headers alone."""
        self.do_GET()

    def do_GET(self) -> None:
        """Any of the three hosts."""
        path = unquote(urlsplit(self.path).path)
        with self.server.lock:
            self.server.asked[self.command, path] += 1
            nth = self.server.asked[self.command, path]
        # The client may hang up: that is its right.
        with suppress(BrokenPipeError, ConnectionResetError):
            if path.startswith("/api/datasets/"):
                self._tree(path)
            else:
                self._file(path, nth)

    def _tree(self, path: str) -> None:
        repository = path.removeprefix("/api/datasets/").split("/tree/")[0]
        start = f"/datasets/{repository}/resolve/"
        listing = [
            {
                "type": "file",
                "path": name.removeprefix(start).split("/", 1)[1],
                "size": len(self.server.content(name)),
                "oid": "0" * 40,
            }
            for name in self.server.files
            if name.startswith(start)
        ]
        self._send(200, json.dumps(listing).encode(), {"Content-Type": "application/json"})

    def _file(self, path: str, nth: int) -> None:
        if path not in self.server.files:
            self._send(404, b"not found")
            return
        content = self.server.content(path)
        mood = self.server.moods.get(path, "kind")
        if mood in PERMANENT:
            PERMANENT[mood](self)
        elif mood in PASSING and nth == 1:
            PASSING[mood](self, content)
        else:
            self._range(path, content)

    def _range(self, path: str, content: bytes) -> None:
        extra = {"Accept-Ranges": "bytes"}
        if path.startswith("/datasets/"):
            extra |= {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        asked = self.headers.get("Range")
        if asked is None:
            self._send(200, content, extra)
            return
        start = int(asked.removeprefix("bytes=").split("-")[0])
        if start >= len(content):
            self._send(416, b"", extra | {"Content-Range": f"bytes */{len(content)}"})
            return
        place = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206, content[start:], extra | {"Content-Range": place})

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
            if length is not None and length > len(body):
                self.close_connection = True

    def cut(self, content: bytes) -> None:
        """Half, then the connection breaks."""
        self._send(200, content[: len(content) // 2], length=len(content))

    def wrong_length(self, content: bytes) -> None:
        """More promised than given."""
        self._send(200, content, length=len(content) + 100)

    def busy(self, content: bytes) -> None:
        """Too many requests."""
        self._send(429, b"", {"Retry-After": "0"})

    def broken(self, content: bytes) -> None:
        """An error of its own."""
        self._send(503, b"")

    def drip(self, content: bytes) -> None:
        """A byte now and then."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        for byte in content:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(0.05)

    def empty(self) -> None:
        """Nothing, and all is well."""
        self._send(200, b"")

    def page(self) -> None:
        """An apology in place of a picture."""
        self._send(200, PAGE, {"Content-Type": "text/html"})

    def dead(self) -> None:
        """Gone."""
        self._send(404, PAGE)

    def forbidden(self) -> None:
        """Not you, or not now."""
        self._send(403, PAGE)

    def endless(self) -> None:
        """More than anyone wants."""
        self._send(200, b"", length=1 << 40)

    def circle(self) -> None:
        """Look here, look here, look here."""
        self._send(302, b"", {"Location": self.path})

    def nowhere(self) -> None:
        """Look at what is no address."""
        self._send(302, b"", {"Location": "http://[::1/"})

    def no_name(self) -> None:
        """Look at a host that cannot have such a name."""
        self._send(302, b"", {"Location": "http://a..b/"})


PASSING = {
    "cut": Handler.cut,
    "wrong length": Handler.wrong_length,
    "busy": Handler.busy,
    "broken": Handler.broken,
    "drip": Handler.drip,
}
PERMANENT = {
    "empty": Handler.empty,
    "page": Handler.page,
    "dead": Handler.dead,
    "endless": Handler.endless,
    "circle": Handler.circle,
    "nowhere": Handler.nowhere,
    "no name": Handler.no_name,
}


class Server(ThreadingHTTPServer):
    """The server; `asked` counts requests by method and path."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes | Path] = {}
        self.moods: dict[str, str] = {}
        self.asked: Counter[tuple[str, str]] = Counter()
        self.lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no error of the server's."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def content(self, path: str) -> bytes:
        """What lies at a path."""
        held = self.files[path]
        return held.read_bytes() if isinstance(held, Path) else held

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def running() -> Iterator[Server]:
    """A server for the length of a block."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
