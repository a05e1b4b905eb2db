"""Opening: the port is open before the engine is there; until then all but probes get 503."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from octavo.services.frontend.auth import OPEN_PATHS
from octavo.services.frontend.edge import error_response
from octavo.services.frontend.engine_client import EngineClient
from octavo.shared.errors import EngineDead

ANSWERED = OPEN_PATHS | {"/ping", "/version"}


class OpeningLayer:
    """Once it was open it stays so: what comes while processes are started again waits for them."""

    def __init__(self, app: ASGIApp, engine: EngineClient) -> None:
        self._app = app
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._engine.open or scope["type"] != "http" or scope["path"] in ANSWERED:
            await self._app(scope, receive, send)
            return
        refused = EngineDead("The server is not ready yet.", code=self._engine.state)
        await error_response(refused, scope["path"])(scope, receive, send)
