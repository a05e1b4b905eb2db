"""ServedRoute: a line of the table from which the router and /openapi.json are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from octavo.services.frontend.service import Product, service_of

JSON = "application/json"
EVENTS = "text/event-stream"
TEXT = "text/plain"
HTML = "text/html"
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class ServedRoute:
    """A path and what it takes and answers.

    `request` and `response` are the structs of the bodies; `event` that of one event where the
    answer may be streamed. `media` is the type of an answer that is no struct. `makes`: what the
    model must be for; on another server the route says so.
    """

    path: str
    endpoint: Endpoint
    summary: str
    methods: tuple[str, ...] = ("GET",)
    request: Any = None
    response: Any = None
    event: Any = None
    media: str | None = None
    makes: Product | None = None

    def route(self) -> Route:
        endpoint = self.endpoint if self.makes is None else _guarded(self.endpoint, self.makes)
        return Route(self.path, endpoint, methods=list(self.methods))


def _guarded(endpoint: Endpoint, makes: Product) -> Endpoint:
    async def checked(request: Request) -> Response:
        service_of(request).check_product(makes)
        return await endpoint(request)

    return checked
