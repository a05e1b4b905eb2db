"""Counts of HTTP: how many requests, how long, how large; and a line of log for each.

Label values come from closed sets: a path is one of the routes' or `none`, a method a known one or
`OTHER`. Probes are left out, as they would drown the rest.
"""

from __future__ import annotations

import bisect
import re
import time
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octavo.services.frontend import access
from octavo.shared.http_counts import FINE_SECONDS, RouteCounts
from octavo.shared.messages import HttpCounts

METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})
PROBES = frozenset({"/health", "/health/live", "/health/ready", "/ping", "/metrics", "/load"})
CLIENT_LEFT = 499
"""No status was ever sent."""


class HttpCounter:
    """The counts of one frontend, since its start."""

    def __init__(self) -> None:
        self._routes: dict[tuple[str, str], RouteCounts] = {}
        self._fine = [0] * (len(FINE_SECONDS) + 1)
        self._seconds = 0.0

    def note(
        self, handler: str, method: str, status: int, seconds: float, received: int, sent: int
    ) -> None:
        route = self._routes.setdefault((handler, method), RouteCounts(handler, method))
        route.note(status, seconds, received, sent)
        self._fine[bisect.bisect_left(FINE_SECONDS, seconds)] += 1
        self._seconds += seconds

    def message(self) -> HttpCounts:
        return HttpCounts(list(self._routes.values()), self._fine, self._seconds)


class CountingLayer:
    """The outermost layer: what the edge turns away is counted too."""

    def __init__(self, app: ASGIApp, counter: HttpCounter, paths: Iterable[str]) -> None:
        self._app = app
        self._counter = counter
        self._plain = {path for path in paths if "{" not in path}
        self._patterns = [(compile_path(path)[0], path) for path in paths if "{" in path]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        began, status, sent = time.monotonic(), CLIENT_LEFT, 0
        record = access.opened(began)

        async def send_on(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "OTHER"
            seconds = time.monotonic() - began
            handler = self._handler(scope["path"])
            self._counter.note(handler, method, status, seconds, _announced(scope), sent)
            access.write(record, method, handler, status, seconds)

    def _handler(self, path: str) -> str:
        if path in self._plain:
            return path
        found = (name for pattern, name in self._patterns if re.match(pattern, path))
        return next(found, "none")


def _announced(scope: Scope) -> int:
    text = Headers(scope=scope).get("content-length", "0")
    return int(text) if text.isdecimal() and len(text) < 16 else 0
