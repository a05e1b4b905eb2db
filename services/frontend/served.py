"""ServedRoute: a line of the table from which the router and /openapi.json are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

JSON = "application/json"
EVENTS = "text/event-stream"
TEXT = "text/plain"


@dataclass(frozen=True)
class ServedRoute:
    """A path and what it takes and answers.

    `request` and `response` are the structs of the bodies; `event` that of one event where the
    answer may be streamed. `media` is the type of an answer that is no struct.
    """

    path: str
    endpoint: Callable[[Request], Awaitable[Response]]
    summary: str
    methods: tuple[str, ...] = ("GET",)
    request: Any = None
    response: Any = None
    event: Any = None
    media: str | None = None

    def route(self) -> Route:
        return Route(self.path, self.endpoint, methods=list(self.methods))
