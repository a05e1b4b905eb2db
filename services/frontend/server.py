"""uvicorn on an inherited socket, with our own way to stop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from octavo.services.frontend.engine_client import EngineClient
from octavo.services.frontend.http_limits import LimitedHttpProtocol

LAST_WORDS_SECONDS = 2.0
"""After the shutdown timeout: time for the error events to reach their clients."""
KEEP_ALIVE_SECONDS = 65
BACKLOG = 4096


class Server(uvicorn.Server):
    """Leaves the signals alone: `__main__` decides what they mean."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def create_server(app: ASGIApp, shutdown_timeout: float) -> Server:
    config = uvicorn.Config(
        app,
        http=LimitedHttpProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",  # what is no HTTP, or asks for a WebSocket, is not worth a line each
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(shutdown_timeout + LAST_WORDS_SECONDS),
    )
    return Server(config)


async def serve(
    server: Server,
    sockets: list[socket.socket],
    engine: EngineClient,
    stop: asyncio.Event,
    shutdown_timeout: float,
) -> None:
    """Serve until `stop`. Requests in flight then get `shutdown_timeout` seconds to finish;
    what is left ends with an error (in a stream: an error event)."""
    serving = asyncio.create_task(server.serve(sockets=sockets))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    server.should_exit = True
    engine.closing = True
    deadline = asyncio.get_running_loop().call_later(
        shutdown_timeout, engine.close, "The server is shutting down."
    )
    await serving
    deadline.cancel()
    await engine.drained()
