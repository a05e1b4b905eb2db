"""uvicorn's HTTP protocol with limits: a request's head in bytes, fields and time, its body in time
and in the bytes that frame it, and how long a client may leave its answer unread.

Without them a client that sends headers or trailers for ever, never ends a body, or reads nothing,
holds memory or a connection.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Literal

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from octavo.services.frontend import access
from octavo.services.frontend.edge import BODY_TIMEOUT, error_body
from octavo.shared.errors import InvalidRequest

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADER_FIELDS = 100
HEAD_TIMEOUT = 10.0
BODY_SECONDS = BODY_TIMEOUT + 5.0
"""Until a body has ended. A route that reads it has answered 400 by then."""
LINGER_SECONDS = 5.0
"""For the rest of a body whose request has been answered: to close at once would reset the
connection of a client that still sends, and its answer with it."""
STALL_TIMEOUT = 60.0
"""Seconds in which a client has to take some of what waits for it."""
RESET = struct.pack("ii", 1, 0)
SEND_BUFFER = 256 * 1024
"""Bytes that the kernel keeps for a client that does not read; else it would be megabytes."""
WIRE = "octavo.wire"
"""Key of the scope: this protocol, for responses that write to its transport themselves."""
Stage = Literal["idle", "head", "body"]
"""Of what the client sends: nothing, or a request that has got so far."""


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection."""

    _stage: Stage = "idle"
    _timer: asyncio.TimerHandle | None = None
    """Of the stage."""
    _framing = 0
    """Bytes since the stage began, or since the last byte of a body: the parser keeps them."""
    _head_bytes = 0
    _stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._enter("head", HEAD_TIMEOUT)

    def connection_lost(self, exc: Exception | None) -> None:
        self._enter("idle")
        self._end_stall()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_timer = self.loop.call_later(STALL_TIMEOUT, self.cut_off)

    def resume_writing(self) -> None:
        self._end_stall()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        self._framing += len(data)
        super().data_received(data)
        if self._framing > MAX_HEAD_BYTES:
            self.send_400_response("The request's headers, or what frames its body, are too large.")
        elif self._stage == "idle" and self.cycle is not None and self.cycle.response_complete:
            self._keep_alive()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[WIRE] = self  # type: ignore[literal-required]
        self._head_bytes = 0
        self._enter("head", HEAD_TIMEOUT)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._stage == "body":
            return  # a trailer: nothing that we know may stand there
        super().on_header(name, value)
        self._count_head(len(name) + len(value))

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        # Of one that waits for its turn nothing more is read, so its time does not run yet.
        self._enter("body", None if self.pipeline else BODY_SECONDS)

    def on_body(self, body: bytes) -> None:
        self._framing = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._enter("idle")
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._stage == "body":
            late = self.cycle.response_complete  # else it is the turn of the one that waited
            self._enter("body", LINGER_SECONDS if late else BODY_SECONDS)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets OpenAI's error form too, and the connection is closed; where an
        answer to the same request has begun, that is all."""
        self._enter(self._stage)
        if self.transport.is_closing():
            return
        if not self._answered:
            access.write_refusal(InvalidRequest.status)
            body = msgspec.json.encode(error_body(InvalidRequest(msg)))
            self.transport.write(
                b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
                b"connection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
            )
        self.transport.close()

    @property
    def _answered(self) -> bool:
        """Whether what is written now would stand in, or behind, the answer to what is read."""
        if self.cycle is None or not self.cycle.response_started:
            return False
        return self._stage == "body" or not self.cycle.response_complete

    def _keep_alive(self) -> None:
        """The end of a body that was answered before, or empty lines, have unset the time."""
        if not self.transport.is_closing():
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADER_FIELDS:
            raise ValueError("header limits")  # httptools turns it into a parser error

    def _enter(self, stage: Stage, seconds: float | None = None) -> None:
        """Begin a stage, which may take so long."""
        self._stage = stage
        self._framing = 0
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._expired)

    def _expired(self) -> None:
        self.transport.close()

    def _end_stall(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def cut_off(self) -> None:
        """By a reset: the kernel would go on offering its buffer for many minutes."""
        connection = self.transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()
