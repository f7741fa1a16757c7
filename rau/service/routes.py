"""The routes of the API."""

import hmac
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.security import HTTPBearer

from rau.errors import UserError
from rau.search.searcher import Reference
from rau.service.feedback import Feedback
from rau.service.live import Live, Snapshot
from rau.service.messages import (
    FeedbackRequest,
    FeedbackStored,
    Health,
    IndexInfo,
    SearchRequest,
    SearchResponse,
    Upload,
    UploadId,
)
from rau.service.metrics import Metrics
from rau.service.work import Busy, Work

PREFIX, UPLOADS = "/api", "/uploads"
# Maximum size in bytes of all uploads that are being read or wait to be encoded.
MAX_HELD = 2**28
KEPT = {"Cache-Control": "private, max-age=300"}
WRONG: dict[int | str, dict[str, Any]] = {
    422: {"description": "Invalid request."},
    503: {"description": "Too many requests; ask again after Retry-After seconds."},
}
JPEG: dict[str, Any] = {
    "response_class": Response,
    "responses": {200: {"content": {"image/jpeg": {}}}, 404: {"description": "Unknown."}},
}


class Routes:
    """The routes of one service.

    Args:
        feedback: where feedback is stored; None: not at all, and there is no route for it.
        token: the token that feedback requires; None: no token.
    """

    def __init__(
        self, live: Live, work: Work, metrics: Metrics, feedback: Feedback | None, token: str | None
    ) -> None:
        self._live, self._work, self._metrics = live, work, metrics
        self._feedback, self._token = feedback, token
        self._held = 0

    def router(self) -> APIRouter:
        """A router with all routes."""
        api = APIRouter(prefix=PREFIX)
        api.add_api_route("/index", self.index)
        api.add_api_route("/search", self.search, methods=["POST"], responses=WRONG)
        api.add_api_route(
            UPLOADS,
            self.upload,
            methods=["POST"],
            status_code=201,
            responses=WRONG,
            openapi_extra={"requestBody": {"required": True, "content": {"image/*": {}}}},
        )
        api.add_api_route(f"{UPLOADS}/{{name}}", self.uploaded, **JPEG)
        api.add_api_route("/image", self.image, **JPEG)
        if self._feedback is not None:
            bearer = [Depends(HTTPBearer(auto_error=False))] if self._token else []
            api.add_api_route(
                "/feedback", self.feedback, methods=["POST"], status_code=201, dependencies=bearer
            )
        api.add_api_route("/health", self.health)
        api.add_api_route("/metrics", self.metrics, response_class=Response)
        return api

    async def index(self) -> IndexInfo:
        """Return the number of images, filters, examples, and whether feedback is stored."""
        now = self._live.now
        return IndexInfo(
            images=len(now.searcher.index),
            filters=now.filters,
            examples=now.examples,
            feedback=self._feedback is not None,
            token=self._token is not None,
        )

    async def search(self, asked: SearchRequest) -> SearchResponse:
        """Search by images of the index, uploads, a caption, or any combination of them."""
        return await self._work.run(_search, self._live.now, asked)

    async def upload(self, request: Request) -> Upload:
        """Upload a query image: the body is its file, of type image/*."""
        if not request.headers.get("content-type", "").startswith("image/"):
            raise HTTPException(415, "send an image file as the body, with its Content-Type")
        content = bytearray()
        try:
            async for chunk in request.stream():
                content += chunk
                self._held += len(chunk)
                if self._held > MAX_HELD:
                    raise Busy
            now = self._live.now
            upload = await self._work.run(now.uploads.add, bytes(content), now.searcher.model)
        finally:
            self._held -= len(content)
        return Upload.model_validate(upload)

    async def uploaded(self, name: UploadId) -> Response:
        """Return an upload as a small JPEG while it is kept in memory."""
        held = self._live.now.uploads.get(name)
        if held is None:
            raise HTTPException(404, "the upload is no longer stored; upload it again")
        return Response(held.thumbnail, media_type="image/jpeg", headers=KEPT)

    def image(self, name: Annotated[str, Query(alias="id", max_length=1000)]) -> Response:
        """Return an image of the index as a small JPEG."""
        thumbnail = self._live.now.searcher.index.thumbnail(name)
        if thumbnail is None:
            raise HTTPException(404, "the index has no image of this id")
        return Response(thumbnail, media_type="image/jpeg", headers=KEPT)

    def feedback(self, answer: FeedbackRequest, request: Request) -> FeedbackStored:
        """Store whether the target is a correct answer; both images are of the index."""
        assert self._feedback is not None
        given = request.headers.get("authorization", "")
        wanted = f"Bearer {self._token}"
        if self._token and not hmac.compare_digest(given.encode(), wanted.encode()):
            raise HTTPException(
                401, "the token is missing or wrong", {"WWW-Authenticate": "Bearer"}
            )
        known = self._live.now.searcher.index.place
        for name in (answer.reference, answer.target):
            if name not in known:
                raise UserError(f"the index has no image {name}")
        self._feedback.add(answer.reference, answer.target, answer.caption, answer.accepted)
        self._metrics.feedback.labels(str(answer.accepted).lower()).inc()
        return FeedbackStored()

    async def health(self) -> Health:
        """Return the state of the service."""
        images = len(self._live.now.searcher.index)
        return Health(images=images, stale=self._live.problem is not None)

    async def metrics(self) -> Response:
        """Return metrics for Prometheus."""
        return self._metrics.response()


def _search(now: Snapshot, asked: SearchRequest) -> SearchResponse:
    references: list[Reference] = [*asked.references]
    for name in asked.uploads:
        if (held := now.uploads.get(name)) is None:
            raise HTTPException(404, f"the upload {name} is no longer stored; upload it again")
        references.append(held.feature)
    answer = now.searcher.ask(
        references,
        asked.caption,
        asked.without,
        asked.image_weight,
        asked.k,
        asked.where,
        asked.keep_references,
        asked.any_category,
    )
    return SearchResponse.model_validate(answer)
