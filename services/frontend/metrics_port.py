"""The port of `--metrics-port`: what scrapers and probes ask, without a key, and nothing else.

A server of its own beside the public one, so that no path or header on that one leads here. It
answers to the end: a draining server's probes fail, and its last counts can still be scraped.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp

from octavo.services.frontend.app import ERROR_HANDLERS
from octavo.services.frontend.auth import KeyRing
from octavo.services.frontend.edge import Edge
from octavo.services.frontend.routes.health import health, live, metrics, ready
from octavo.services.frontend.server import Server, create_server
from octavo.services.frontend.service import Service

ENDPOINTS = {
    "/metrics": metrics,
    "/health": health,
    "/health/live": live,
    "/health/ready": ready,
}


def create_metrics_app(service: Service) -> ASGIApp:
    routes = [Route(path, endpoint, methods=["GET"]) for path, endpoint in ENDPOINTS.items()]
    app = Starlette(routes=routes, exception_handlers=ERROR_HANDLERS)
    app.router.redirect_slashes = False
    app.state.service = service
    return Edge(app, KeyRing())


@contextlib.asynccontextmanager
async def metrics_port(
    service: Service, listener: socket.socket | None
) -> AsyncIterator[list[Server]]:
    """Serve on it while inside; without a listener there is no server."""
    if listener is None:
        yield []
        return
    server = create_server(create_metrics_app(service))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield [server]
    finally:
        server.should_exit = True
        await serving
