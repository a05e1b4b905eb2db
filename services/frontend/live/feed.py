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
    """The first of those who watch has the next snapshot made; the others wait for the same."""

    def __init__(self, engine: EngineClient) -> None:
        self._engine = engine
        self._next: asyncio.Task[bytes] | None = None
        self._made = float("-inf")

    async def follow(self) -> AsyncIterator[bytes]:
        """Events until LONGEST has passed; a single one while the server drains, which waits for
        the end of every stream."""
        loop = asyncio.get_running_loop()
        end = loop.time() + LONGEST
        while True:
            yield await self._snapshot()
            if self._engine.closing or loop.time() > end:
                return

    async def _snapshot(self) -> bytes:
        if self._next is None or self._next.done():
            self._next = asyncio.create_task(self._make())
        return await asyncio.shield(self._next)

    async def _make(self) -> bytes:
        """INTERVAL after the last one."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._made + INTERVAL - loop.time())
        self._made = loop.time()
        try:
            snapshot = await self._engine.page("snapshot")
        except EngineDead:
            return event(State(state="draining" if self._engine.closing else "no answer"))
        # What the scheduler cannot know goes first into its object.
        return b'data: {"state":"%s",%s\n\n' % (self._engine.state.encode(), snapshot[1:])
