"""Fetching files over HTTP: bounded in size, retried, and resumed by range requests."""

import time
from pathlib import Path

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3 import Retry

TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
GONE = (404, 410)
CHUNK = 1 << 16
PARTIAL, PAST_THE_END = 206, 416
DIGITS = 20  # Of a length; there is no limit with more.


class Refused(Exception):
    """The server will never send this file; retrying is useless."""


class Unreachable(Exception):
    """The server did not send the whole file; a later run may succeed."""


class Client(requests.Session):
    """A session that fetches many files, safe to share between threads.

    Args:
        connections: maximum number of concurrent connections.
        attempts: number of requests for a file, each from where the last attempt stopped.
        timeout: seconds without a response or a byte.
        backoff: seconds before the second attempt, doubled for each further one.
        slowest: bytes per second below which an attempt is abandoned after `patience` seconds.
        patience: seconds over which the speed is measured.
    """

    def __init__(
        self,
        connections: int,
        *,
        attempts: int = 5,
        timeout: float = 20.0,
        backoff: float = 0.5,
        slowest: float = 512.0,
        patience: float = 10.0,
    ) -> None:
        super().__init__()
        self.connections = connections
        self._attempts = attempts
        self._timeout = timeout
        self._backoff = backoff
        self._slowest = slowest
        self._patience = patience
        # For busy servers urllib3 waits as long as their Retry-After says.
        retry = Retry(
            total=attempts,
            connect=2,
            backoff_factor=backoff,
            backoff_max=60,
            backoff_jitter=backoff,
            status_forcelist=TRANSIENT,
            retry_after_max=120,
            raise_on_status=False,
        )
        # Ranges and lengths count bytes as sent, so no compression.
        self.headers.update({"Accept-Encoding": "identity", "User-Agent": "rau"})
        for scheme in ("http://", "https://"):
            adapter = HTTPAdapter(pool_maxsize=connections, pool_block=True, max_retries=retry)
            self.mount(scheme, adapter)

    def fetch(self, url: str, part: Path, limit: int) -> None:
        """Fetch `url` into `part`, resuming from the bytes that an earlier run left there.

        Raises:
            Refused: the file is gone or larger than `limit` bytes, or the URL is unusable.
            Unreachable: the server does not answer, or every attempt broke off.
        """
        reason = ""
        for attempt in range(self._attempts):
            if attempt:
                time.sleep(min(60.0, self._backoff * 2 ** (attempt - 1)))
            have = part.stat().st_size if part.exists() else 0
            with self._open(url, have) as answer:
                if answer.status_code == PAST_THE_END:
                    if answer.headers.get("Content-Range") == f"bytes */{have}":
                        return
                    part.unlink()
                    reason = "the file has changed on the server"
                    continue
                resumes = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
                start = have if answer.status_code == PARTIAL and resumes else 0
                try:
                    if self._receive(answer, part, start, limit):
                        return
                    reason = f"slower than {self._slowest:.0f} bytes per second"
                except urllib3.exceptions.HTTPError as error:
                    reason = type(error).__name__
        raise Unreachable(f"{url}: {reason}, in all of {self._attempts} attempts")

    def _open(self, url: str, have: int) -> requests.Response:
        headers = {"Range": f"bytes={have}-"} if have else {}
        try:
            answer = self.get(url, headers=headers, stream=True, timeout=self._timeout)
        except (ValueError, requests.TooManyRedirects) as error:
            # An invalid URL, given or in a redirect, is a ValueError in every library involved.
            raise Refused(f"{url}: {type(error).__name__}") from error
        except requests.RequestException as error:
            raise Unreachable(f"{url}: {type(error).__name__}") from error
        # Without a range, 416 is an error of the server's like any other.
        if answer.ok or (have and answer.status_code == PAST_THE_END):
            return answer
        answer.close()
        # A refusal may be rate limiting and is retried later; 404 and 410 are final.
        kind = Refused if answer.status_code in GONE else Unreachable
        raise kind(f"{url}: status {answer.status_code}")

    def _receive(self, answer: requests.Response, part: Path, start: int, limit: int) -> bool:
        """Write the body from `start` on; returns False if the server was too slow."""
        begun, got = time.monotonic(), 0
        declared = answer.headers.get("Content-Length", "")
        # Python refuses to convert thousands of digits.
        if declared.isdecimal() and (len(declared) > DIGITS or start + int(declared) > limit):
            raise Refused(f"{answer.url}: larger than {limit} bytes")
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            # `read1` returns what has arrived; `read` would wait for a whole chunk.
            while chunk := answer.raw.read1(CHUNK):
                got += len(chunk)
                if start + got > limit:
                    part.unlink()
                    raise Refused(f"{answer.url}: larger than {limit} bytes")
                file.write(chunk)
                passed = time.monotonic() - begun
                if passed > self._patience and got < self._slowest * passed:
                    return False
        return True
