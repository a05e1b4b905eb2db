"""Probes: /health, /health/live, /health/ready, /ping, /version, /load, /metrics."""

from __future__ import annotations

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from octavo.services.frontend.edge import error_body, json_response
from octavo.services.frontend.engine_client import EngineClient
from octavo.services.frontend.replies import Load, NotReady, State, Version
from octavo.shared.errors import EngineDead
from octavo.shared.version import VERSION

REASONS = {
    "draining": "The server is shutting down.",
    "starting": "The server is starting.",
    "loading": "The model is being loaded.",
    "warming": "The model is being warmed up.",
}
HUNG = EngineDead("The supervisor gives no sign of life.", code="unsupervised")


async def health(request: Request) -> Response:
    """200 while requests make progress, else 503."""
    engine = engine_of(request)
    return Response() if engine.state == "ready" else not_ready(engine)


async def ready(request: Request) -> Response:
    """The same, with the state's name."""
    engine = engine_of(request)
    return json_response(state_of(engine)) if engine.state == "ready" else not_ready(engine)


async def live(request: Request) -> Response:
    """200 as long as this process can answer and its supervisor lives, who mends all else."""
    engine = engine_of(request)
    return json_response(state_of(engine)) if engine.supervised() else not_ready(engine, HUNG)


def engine_of(request: Request) -> EngineClient:
    """All that these routes need, so that a process without the rest can have them."""
    engine: EngineClient = request.app.state.engine
    return engine


def state_of(engine: EngineClient) -> State:
    return State(state=engine.state, progress=engine.told.progress or UNSET)


def not_ready(engine: EngineClient, error: EngineDead | None = None) -> Response:
    """503 with the state, and the same as an error, if there is no other, for clients that read
    that."""
    state = engine.state
    error = error or EngineDead(REASONS.get(state) or engine.trouble, code=state)
    told = state_of(engine)
    body = NotReady(state=told.state, progress=told.progress, error=error_body(error).error)
    response = json_response(body, error.status)
    response.headers["Retry-After"] = str(error.retry_after)
    return response


async def version(request: Request) -> Response:
    return json_response(Version(version=VERSION))


async def load(request: Request) -> Response:
    """Requests in the engine, running or waiting, of all frontends."""
    stats = engine_of(request).stats
    return json_response(Load(server_load=0 if stats is None else stats.running + stats.waiting))


async def metrics(request: Request) -> Response:
    """The scheduler's page, in Prometheus' text format."""
    page = await engine_of(request).page("metrics")
    return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")
