"""uvicorn on an inherited socket, with our own way to stop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from octavo.services.frontend.engine_client import EngineClient
from octavo.services.frontend.http_limits import LimitedHttpProtocol

LAST_WORDS_SECONDS = 2
"""After the shutdown timeout: time for the error events to reach their clients."""
KEEP_ALIVE_SECONDS = 65
BACKLOG = 4096
IDLE_INTERVAL = 0.02


class Server(uvicorn.Server):
    """Leaves the signals alone: `__main__` decides what they mean."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def create_server(app: ASGIApp) -> Server:
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
        timeout_graceful_shutdown=LAST_WORDS_SECONDS,
    )
    return Server(config)


@dataclass(frozen=True)
class Ending:
    """How a frontend is told to end, and how many seconds requests in flight get after `stop`.

    `retire`: another frontend has taken over the port. This one accepts no connection any more,
    and what it has begun takes as long as it takes.
    """

    stop: asyncio.Event
    retire: asyncio.Event
    timeout: float

    async def asked(self) -> None:
        waits = [asyncio.create_task(event.wait()) for event in (self.stop, self.retire)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


async def serve(
    server: Server,
    sockets: list[socket.socket],
    engine: EngineClient,
    ending: Ending,
) -> None:
    """Serve until the end is asked for, and what is in flight has ended.

    When stopping, health and new requests are answered 503 at once, and the port is closed last, so
    that a load balancer sees why. What is left at the deadline ends with an error (in a stream: an
    error event).
    """
    serving = asyncio.create_task(server.serve(sockets=sockets))
    asked = asyncio.create_task(ending.asked())
    await asyncio.wait({serving, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    server.server_state.default_headers.append((b"connection", b"close"))
    if ending.retire.is_set() and not ending.stop.is_set():
        for listening in server.servers:
            listening.close()
        await _idle(server, ending.stop)
    engine.closing = True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ending.timeout):
            await _idle(server)
    engine.close("The server is shutting down.")
    server.should_exit = True
    await serving
    await engine.drained()


async def _idle(server: Server, hurry: asyncio.Event | None = None) -> None:
    """Wait until no request is being answered, or for `hurry`."""
    while server.server_state.tasks and not (hurry is not None and hurry.is_set()):
        await asyncio.sleep(IDLE_INTERVAL)
