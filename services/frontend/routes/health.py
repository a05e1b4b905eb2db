"""Probes: /health, /ping, /version, /load, /metrics."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from octavo.services.frontend.edge import json_response
from octavo.services.frontend.replies import Load, Version
from octavo.services.frontend.service import service_of
from octavo.shared.errors import EngineDead
from octavo.shared.version import VERSION


async def health(request: Request) -> Response:
    """200 while the engine gives signs of progress, else 503."""
    engine = service_of(request).engine
    if engine.closing:
        raise EngineDead("The server is shutting down.")
    if not engine.healthy:
        raise EngineDead("The engine is not running.")
    if not engine.serving:
        raise EngineDead("The workers are being started again.")
    return Response()


async def version(request: Request) -> Response:
    return json_response(Version(version=VERSION))


async def load(request: Request) -> Response:
    """Requests in the engine, running or waiting, of all frontends."""
    stats = service_of(request).engine.stats
    return json_response(Load(server_load=0 if stats is None else stats.running + stats.waiting))


async def metrics(request: Request) -> Response:
    """The scheduler's page, in Prometheus' text format."""
    page = await service_of(request).engine.metrics()
    return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")
