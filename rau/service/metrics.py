"""Metrics for Prometheus: requests by route and status, their duration, images, feedback."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The metrics of one service."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "rau_requests", "Requests.", ("route", "status"), registry=self._registry
        )
        self.errors = Counter(
            "rau_errors", "Requests with an internal error.", ("route",), registry=self._registry
        )
        self.seconds = Histogram(
            "rau_request_seconds",
            "Seconds from a request's head to the end of its response.",
            ("route",),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self.feedback = Counter(
            "rau_feedback", "Feedback stored.", ("accepted",), registry=self._registry
        )

    def watch(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """Add a gauge, whose value is computed when metrics are read."""
        Gauge(name, help_text, registry=self._registry).set_function(value)

    def response(self) -> Response:
        """All metrics in Prometheus' text format."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE)


class Measured:
    """Middleware that counts requests and measures their duration."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        started = time.perf_counter()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            # Unknown paths share one label; otherwise the number of labels would be unbounded.
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - started)
            if status >= 500:
                self._metrics.errors.labels(route).inc()
