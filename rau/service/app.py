"""The application: routes, the page's files, middleware and error responses."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.middleware import Middleware
from starlette.responses import JSONResponse

from rau.errors import UserError
from rau.service.feedback import Feedback, NotKept
from rau.service.guard import HEADERS, Headed, Limited, OwnNames, SameOrigin, error
from rau.service.live import Live
from rau.service.metrics import Measured, Metrics
from rau.service.routes import PREFIX, UPLOADS, Routes
from rau.service.work import Busy, Work

STATIC = Path(__file__).with_name("static")
FILES = {
    "page.html": "text/html",
    "page.css": "text/css",
    "icon.svg": "image/svg+xml",
    "page.js": "text/javascript",
    "images.js": "text/javascript",
    "api.js": "text/javascript",
    "address.js": "text/javascript",
    "filters.js": "text/javascript",
    "results.js": "text/javascript",
}
# Maximum size of a request body in bytes.
MAX_JSON, MAX_UPLOAD = 2**16, 20 * 2**20
SIZES = {PREFIX + UPLOADS: MAX_UPLOAD}
SECONDS = 60.0


async def _wrong(_: Request, problem: Exception) -> JSONResponse:
    return error(422, str(problem))


async def _malformed(_: Request, problem: Exception) -> JSONResponse:
    assert isinstance(problem, RequestValidationError)
    first = problem.errors()[0]
    if first["type"] == "json_invalid":
        return error(422, f"the body is not valid JSON: {first['ctx']['error']}")
    place = ".".join(str(part) for part in first["loc"][1:])
    return error(422, f"{place}: {first['msg']}" if place else str(first["msg"]))


async def _busy(_: Request, problem: Exception) -> JSONResponse:
    return error(503, "too many requests; try again", **{"Retry-After": "1"})


async def _not_kept(_: Request, problem: Exception) -> JSONResponse:
    return error(507, f"the feedback could not be stored: {problem}")


async def _fault(_: Request, problem: Exception) -> JSONResponse:
    # This response bypasses all middleware; the error is then logged with its traceback.
    return error(500, "internal error; see the log of the service", **HEADERS)


# Every error response has one sentence under `detail`.
ERRORS: dict[int | type[Exception], Any] = {
    UserError: _wrong,
    RequestValidationError: _malformed,
    Busy: _busy,
    NotKept: _not_kept,
    Exception: _fault,
}


def create(
    live: Live,
    hosts: Sequence[str],
    threads: int = 2,
    waiting: int = 64,
    feedback: Feedback | None = None,
    token: str | None = None,
    seconds: float = SECONDS,
) -> FastAPI:
    """Create the application.

    Args:
        hosts: accepted host names; requests to other names are refused.
        threads, waiting: maximum numbers of requests that are computed at a time and that wait.
        seconds: time limit of a request.
    """
    work, metrics = Work(threads, waiting), Metrics()
    metrics.watch("rau_index_images", "Images of the index.", lambda: len(live.now.searcher.index))
    metrics.watch("rau_uploads", "Uploaded images in memory.", lambda: len(live.now.uploads))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(live.watch())
        yield
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        work.close()

    app = FastAPI(
        title="rau",
        description="Composed image retrieval: search by an image and a caption that says how the "
        "result should differ.",
        openapi_url="/api/openapi.json",
        # FastAPI's documentation pages load scripts from other sites.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        exception_handlers=ERRORS,
        # Outermost first.
        middleware=[
            Middleware(Measured, metrics=metrics),
            Middleware(Headed),
            Middleware(OwnNames, names=hosts),
            Middleware(Limited, sizes=SIZES, size=MAX_JSON, seconds=seconds),
            Middleware(SameOrigin),
        ],
    )
    app.include_router(Routes(live, work, metrics, feedback, token).router())
    for name, kind in FILES.items():
        app.add_api_route(
            "/" if name == "page.html" else f"/{name}", _file(name, kind), include_in_schema=False
        )
    return app


def _file(name: str, kind: str) -> Callable[[], Response]:
    """Create the route of one of the page's files."""
    content = (STATIC / name).read_bytes()
    return lambda: Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})
