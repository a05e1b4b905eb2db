"""What scrapers and probes may ask without a key, and nothing else.

It has a port of its own, so that no path or header on the public one leads here, and a process of
its own, so that a scrape never waits for a frontend that has streams to write.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp

from octavo.services.frontend.auth import KeyRing
from octavo.services.frontend.edge import ERROR_HANDLERS, Edge
from octavo.services.frontend.engine_client import EngineClient
from octavo.services.frontend.routes.health import health, live, metrics, ready

ENDPOINTS = {
    "/metrics": metrics,
    "/health": health,
    "/health/live": live,
    "/health/ready": ready,
}


def create_app(engine: EngineClient) -> ASGIApp:
    routes = [Route(path, endpoint, methods=["GET"]) for path, endpoint in ENDPOINTS.items()]
    app = Starlette(routes=routes, exception_handlers=ERROR_HANDLERS)
    app.router.redirect_slashes = False
    app.state.engine = engine
    return Edge(app, KeyRing())
