"""Probes: /health, /health/live, /health/ready, /ping, /version, /load, /metrics."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from octavo.services.frontend.edge import json_response
from octavo.services.frontend.engine_client import EngineClient
from octavo.services.frontend.replies import Load, State, Version
from octavo.services.frontend.service import service_of
from octavo.shared.errors import EngineDead
from octavo.shared.version import VERSION

STATES = {
    "draining": "The server is shutting down.",
    "engine_dead": "The engine is not running.",
    "degraded": "The workers are being started again.",
}


async def health(request: Request) -> Response:
    """200 while the engine gives signs of progress, else 503."""
    check_ready(service_of(request).engine)
    return Response()


async def ready(request: Request) -> Response:
    """The same, with the state's name."""
    check_ready(service_of(request).engine)
    return json_response(State(state="ready"))


async def live(request: Request) -> Response:
    """200 as long as this process can answer; what a restart would not mend is not looked at."""
    return json_response(State(state=service_of(request).engine.state))


def check_ready(engine: EngineClient) -> None:
    """Raises EngineDead whose code is the state."""
    if (state := engine.state) != "ready":
        raise EngineDead(STATES[state], code=state)


async def version(request: Request) -> Response:
    return json_response(Version(version=VERSION))


async def load(request: Request) -> Response:
    """Requests in the engine, running or waiting, of all frontends."""
    stats = service_of(request).engine.stats
    return json_response(Load(server_load=0 if stats is None else stats.running + stats.waiting))


async def metrics(request: Request) -> Response:
    """The scheduler's page, in Prometheus' text format."""
    page = await service_of(request).engine.page("metrics")
    return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")
