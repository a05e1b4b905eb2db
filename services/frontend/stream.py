"""Server-sent events: a generation as a stream of chunks.

The response starts with the first token (or the first keep-alive), so that a request which the
engine turns down still gets its proper status. From then on an error is an event, after which the
stream closes without `[DONE]`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Protocol

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from octavo.services.frontend.generation import Generation
from octavo.services.frontend.inbox import ClientGone
from octavo.services.frontend.replies import Reply, Usage
from octavo.services.frontend.schema import StreamOptions
from octavo.shared.errors import OctavoError
from octavo.shared.text.output import Delta

KEEP_ALIVE_SECONDS = 15.0
"""Proxies close connections that stay silent (nginx: after 60 s)."""
KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"

log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class ChunkWriter(Protocol):
    """How one kind of answer writes itself, as whole events."""

    wants_every_token: bool
    """Whether a chunk without text still says something (logprobs, token ids)."""

    def chunk(
        self, index: int, delta: Delta, first: bool, usage: Usage | UnsetType | None
    ) -> list[bytes]:
        """News of choice `index`; `first`: the first of that choice. May have nothing to say."""

    def ending(self, usage: Usage | None) -> list[bytes]:
        """What follows the last news; `usage` where the client asked for it."""

    def error(self, error: OctavoError) -> list[bytes]:
        """What takes the place of the rest."""


def event(reply: Reply, name: str = "") -> bytes:
    """One server-sent event; `name` is its type, none for the API's own."""
    kind = b"event: %s\n" % name.encode() if name else b""
    return b"%sdata: %s\n\n" % (kind, _encode(reply))


def completion_ending(usage_chunk: Reply | None) -> list[bytes]:
    """How both kinds of completion end."""
    return [DONE] if usage_chunk is None else [event(usage_chunk), DONE]


class EventStream(Response):
    """The streamed response of one generation."""

    media_type = "text/event-stream"

    def __init__(
        self, generation: Generation, writer: ChunkWriter, options: StreamOptions | None
    ) -> None:
        # Not Response.__init__: it would announce the length of a body that is not known.
        self.status_code = 200
        self.background = None
        self.init_headers({"X-Accel-Buffering": "no", "Cache-Control": "no-cache"})
        self._generation = generation
        self._writer = writer
        self._options = options or StreamOptions()
        self._started_choices: set[int] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._generation.attended(receive):
            news = await self._generation.next(KEEP_ALIVE_SECONDS)
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            try:
                async for block in self._blocks(news):
                    await send({"type": "http.response.body", "body": block, "more_body": True})
            except ClientGone:
                return
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _blocks(self, news: list[tuple[int, Delta]]) -> AsyncIterator[bytes]:
        """What goes to the socket, one write each, to the very end."""
        try:
            while True:
                # A timeout brings no news; silence is also what a skipped chunk leaves.
                if block := self._news(news) if news else KEEP_ALIVE:
                    yield block
                if self._generation.done:
                    yield self._ending()
                    return
                news = await self._generation.next(KEEP_ALIVE_SECONDS)
        except OctavoError as error:
            yield b"".join(self._writer.error(error))
        except ClientGone:
            raise
        except Exception:
            log.exception("a stream failed")
            yield b"".join(self._writer.error(OctavoError("")))

    def _news(self, news: list[tuple[int, Delta]]) -> bytes:
        return b"".join(self._chunk(index, delta) for index, delta in news)

    def _chunk(self, index: int, delta: Delta) -> bytes:
        first = index not in self._started_choices
        finished = self._generation.outputs[index].finish_reason is not None
        if not (delta.text or first or finished or self._writer.wants_every_token):
            return b""
        self._started_choices.add(index)
        return b"".join(self._writer.chunk(index, delta, first, self._usage()))

    def _usage(self) -> Usage | UnsetType | None:
        """On every chunk where asked for; null where only the last chunk carries it."""
        if not self._options.include_usage:
            return UNSET
        return self._generation.usage() if self._options.continuous_usage_stats else None

    def _ending(self) -> bytes:
        usage = self._generation.usage() if self._options.include_usage else None
        return b"".join(self._writer.ending(usage))
