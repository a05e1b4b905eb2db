"""LiveFeed: one snapshot every half second for all who watch, none when nobody does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from octavo.services.frontend.engine_client import EngineClient
from octavo.services.frontend.events import event
from octavo.services.frontend.replies import State
from octavo.shared.errors import EngineDead

INTERVAL = 0.5
LONGEST = 60.0
"""Seconds of one stream; the page comes back at once. A frontend that retires waits for it."""


class LiveFeed:
    """The first of those who watch asks the scheduler; the others read what it got."""

    def __init__(self, engine: EngineClient) -> None:
        self._engine = engine
        self._latest = b""
        self._asked = -INTERVAL
        self._lock = asyncio.Lock()

    async def follow(self) -> AsyncIterator[bytes]:
        """Events until the server drains, or LONGEST has passed."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not self._engine.closing and loop.time() - began < LONGEST:
            yield await self._snapshot(loop)
            await asyncio.sleep(INTERVAL)

    async def _snapshot(self, loop: asyncio.AbstractEventLoop) -> bytes:
        async with self._lock:
            if loop.time() - self._asked >= INTERVAL / 2:
                self._latest = await self._ask()
                self._asked = loop.time()
        return self._latest

    async def _ask(self) -> bytes:
        try:
            return b"data: " + await self._engine.page("snapshot") + b"\n\n"
        except EngineDead:
            return event(State(state=self._engine.state))
