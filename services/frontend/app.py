"""The web application: a list of routes, a table of error handlers, one layer around them."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp

from octavo.services.frontend.edge import (
    Edge,
    on_any_error,
    on_client_gone,
    on_http_error,
    on_octavo_error,
)
from octavo.services.frontend.inbox import ClientGone
from octavo.services.frontend.routes.chat import chat_completions
from octavo.services.frontend.routes.completions import completions
from octavo.services.frontend.routes.health import health, load, metrics, version
from octavo.services.frontend.routes.models import list_models, retrieve_model
from octavo.services.frontend.routes.tokens import detokenize, tokenize
from octavo.services.frontend.service import Service
from octavo.shared.errors import OctavoError

ROUTES = [
    Route("/v1/chat/completions", chat_completions, methods=["POST"]),
    Route("/v1/completions", completions, methods=["POST"]),
    Route("/v1/models", list_models),
    Route("/v1/models/{model:path}", retrieve_model),
    Route("/tokenize", tokenize, methods=["POST"]),
    Route("/detokenize", detokenize, methods=["POST"]),
    Route("/health", health),
    Route("/ping", health, methods=["GET", "POST"]),
    Route("/version", version),
    Route("/load", load),
    Route("/metrics", metrics),
]

ERROR_HANDLERS = {
    OctavoError: on_octavo_error,
    ClientGone: on_client_gone,
    HTTPException: on_http_error,
    Exception: on_any_error,
}


def create_app(service: Service) -> ASGIApp:
    app = Starlette(routes=ROUTES, exception_handlers=ERROR_HANDLERS)
    app.router.redirect_slashes = False
    app.state.service = service
    return Edge(app, service.config.api_key)
