"""A client that waits for its answer: its leaving aborts what the engine still works on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.types import Receive

from octavo.services.frontend.engine_client import EngineClient
from octavo.services.frontend.inbox import Inbox


@contextlib.asynccontextmanager
async def attended(engine: EngineClient, inbox: Inbox, receive: Receive) -> AsyncIterator[None]:
    """While the client is there: its leaving, like any other end, aborts what still runs."""
    watcher = asyncio.create_task(_watch(engine, inbox, receive))
    try:
        yield
    finally:
        watcher.cancel()
        inbox.close()
        engine.abort(inbox.streams)


async def _watch(engine: EngineClient, inbox: Inbox, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    engine.abort(inbox.streams)
    inbox.cancel()
