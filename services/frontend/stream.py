"""Server-sent events: a generation as a stream of chunks.

The response starts with the first token (or the first keep-alive), so that a request which the
engine turns down still gets its proper status. From then on an error is an event, after which the
stream closes without `[DONE]`.
"""

from __future__ import annotations

import asyncio
import contextlib

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from octavo.services.frontend.connection import KEEP_ALIVE, STREAM_HEADERS, Connection
from octavo.services.frontend.events import ChunkWriter
from octavo.services.frontend.generation import Generation
from octavo.services.frontend.inbox import ClientGone
from octavo.services.frontend.pump import Pump
from octavo.services.frontend.resume import ResumedStream, owner_of, wants_resumable
from octavo.services.frontend.schema import StreamOptions


class EventStream(Response):
    """The streamed response of one generation.

    Where the connection allows it, events go from the engine's message straight to the socket:
    no task is woken for them. A client that reads too slowly takes the long way, which waits for
    it; meanwhile its tokens pile up and go out together. One that leaves too many is cut off.
    """

    media_type = "text/event-stream"

    def __init__(
        self, generation: Generation, writer: ChunkWriter, options: StreamOptions | None
    ) -> None:
        # Not Response.__init__: it would announce the length of a body that is not known.
        self.status_code = 200
        self.background = None
        self.init_headers(STREAM_HEADERS)
        self._generation = generation
        self._pump = Pump(generation, writer, options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if wants_resumable(scope):
            await self._resumable(scope, receive, send)
            return
        connection = Connection(scope, send)
        self._silence = scope["app"].state.service.config.sse_keep_alive_interval
        self._generation.on_flood(connection.cut_off)
        async with self._generation.attended(receive):
            # What is wrong with the request as a whole is found out before the status is sent.
            begun = await self._pump.begin(self._silence)
            await connection.start(self.status_code, self.raw_headers)
            try:
                await connection.send(b"".join(begun) or KEEP_ALIVE)
                while not self._pump.over:
                    await self._follow(connection)
            except ClientGone:
                return
            await connection.end()

    async def _resumable(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The client may leave and come back: its leaving ends nothing."""
        state = scope["app"].state
        silence = state.service.config.sse_keep_alive_interval
        replay = state.replays.open(owner_of(scope), self._generation, self._pump)
        try:
            replay.follow(await self._pump.begin(silence))
        except BaseException:
            replay.close()
            raise
        await ResumedStream(replay, 0, silence)(scope, receive, send)

    async def _follow(self, connection: Connection) -> None:
        """Pass on news for a while, or a sign of life after a long silence."""
        if connection.direct:
            await self._follow_directly(connection)
        elif await self._generation.wait(self._silence):
            await connection.send(b"".join(self._pump.take()))
        else:
            await connection.send(KEEP_ALIVE)

    async def _follow_directly(self, connection: Connection) -> None:
        """Until the end, the client's leaving, or a socket that takes no more."""
        turned, gone = asyncio.Event(), False

        def on_news() -> None:
            nonlocal gone
            try:
                more = True
                while more:
                    connection.write(b"".join(self._pump.take()))
                    more = self._pump.has_more and not connection.paused
            except ClientGone:
                gone = True
            if gone or self._pump.over or connection.paused:
                turned.set()

        self._generation.watch(on_news)
        on_news()
        try:
            while not turned.is_set():
                written = connection.num_written
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._silence):
                        await turned.wait()
                if connection.num_written == written and not turned.is_set():
                    connection.write(KEEP_ALIVE)
        finally:
            self._generation.watch(None)
        if gone:
            raise ClientGone
