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
from octavo.shared.http_counts import FINE_SECONDS, PARSER_CALLS, Counts, RouteCounts, total

METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})
PROBES = frozenset(
    {"/health", "/health/live", "/health/ready", "/ping", "/metrics", "/load", "/version"}
)
CLIENT_LEFT = 499
"""No status was ever sent."""


class HttpCounter:
    """The counts of one frontend, since the scheduler that it talks to began.

    A page's counters must begin at zero together. So with another scheduler, what the last one
    has heard of is forgotten; what happened while there was none is kept.
    """

    def __init__(self) -> None:
        self._heard = Counts()
        self._routes: dict[tuple[str, str], RouteCounts] = {}
        self._fresh = Counts()

    def note(
        self, handler: str, method: str, status: int, seconds: float, received: int, sent: int
    ) -> None:
        route = self._routes.setdefault((handler, method), RouteCounts(handler, method))
        route.note(status, seconds, received, sent)
        self._fresh.fine[bisect.bisect_left(FINE_SECONDS, seconds)] += 1
        self._fresh.seconds += seconds

    def note_parser(self, streaming: bool, called: bool, kind: str) -> None:
        """A parser of tool calls was asked: once a choice, in streams once a delta. `kind`: of
        request, as in PARSER_CALLS."""
        mode = "streaming" if streaming else "non_streaming"
        outcome = "tool_call" if called else "no_tool_call"
        self._fresh.calls[PARSER_CALLS.index((mode, outcome, kind))] += 1

    def counts(self) -> Counts:
        self._fresh.routes = list(self._routes.values())
        return total([self._heard, self._fresh])

    def heard(self) -> None:
        """The scheduler lives."""
        self._heard = self.counts()
        self._routes, self._fresh = {}, Counts()

    def start_over(self) -> None:
        """The scheduler is another one."""
        self._heard = Counts()


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
            handler, sent = self._handler(scope["path"]), sent + record.direct
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
