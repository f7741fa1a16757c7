"""Middleware for every request: response headers, limits of size and time, host and origin."""

import asyncio
import re
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The page uses only its own files and nothing inline; other pages may not embed or read it.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
HOST = re.compile(r"(?P<name>\[[^\[\]]*\]|[^:\[\]]*)(?::\d*)?")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
TOO_LARGE, TOO_SLOW = 413, 408
DIGITS = 20  # Of a body's length; Python refuses to convert thousands of digits.


def error(status: int, detail: str, **headers: str) -> JSONResponse:
    """The error response of every route."""
    return JSONResponse({"detail": detail}, status, headers)


class Headed:
    """Middleware that adds `HEADERS`, and `no-store` to responses without `Cache-Control`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, headed)


class OwnNames:
    """Middleware that refuses requests to other host names, which prevents DNS rebinding."""

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self._app, self._names = app, {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            asked = HOST.fullmatch(Headers(scope=scope).get("host", ""))
            if asked is None or asked["name"].lower() not in self._names:
                refusal = error(400, "unknown host name in the Host header; --name adds one")
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


class SameOrigin:
    """Middleware that refuses requests that a browser sends for a page of another site.

    Browsers send the origin of a request; clients that do not send it are allowed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
            headers = Headers(scope=scope)
            site = headers.get("sec-fetch-site", "same-origin")
            origin = headers.get("origin")
            if site != "same-origin" or (
                origin is not None and _netloc(origin) != headers.get("host")
            ):
                refusal = error(403, "requests from other sites are refused")
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _netloc(origin: str) -> str | None:
    """Host and port of an origin; None if it is malformed."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


class Limited:
    """Middleware that limits the body, while it is read, and the duration of a request.

    Args:
        sizes: maximum size of the body in bytes by path; `size` for all other paths.
        seconds: time limit from the request's head to the end of the response, also for clients
            that send or read slowly.
    """

    def __init__(self, app: ASGIApp, sizes: Mapping[str, int], size: int, seconds: float) -> None:
        self._app, self._sizes, self._size, self._seconds = app, sizes, size, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._sizes.get(scope["path"], self._size)
        too_large = f"the request is larger than {limit:,} bytes"
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdecimal() or len(length) > DIGITS or int(length) > limit:
            await error(TOO_LARGE, too_large)(scope, receive, send)
            return
        left, started = limit, False

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(TOO_LARGE, too_large)
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            async with asyncio.timeout(self._seconds):
                await self._app(scope, counted, noted)
        except TimeoutError:
            if started:
                raise
            await error(TOO_SLOW, "the request took too long", Connection="close")(
                scope, receive, send
            )
