"""uvicorn's HTTP protocol with limits: a request's head in bytes, fields and time, and how long a
client may leave its answer unread.

Without them a client that sends headers for ever, or reads nothing, holds memory or a connection.
"""

from __future__ import annotations

import asyncio
import socket
import struct

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from octavo.services.frontend.edge import error_body
from octavo.shared.errors import InvalidRequest

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADER_FIELDS = 100
HEAD_TIMEOUT = 10.0
STALL_TIMEOUT = 60.0
"""Seconds in which a client has to take some of what waits for it."""
RESET = struct.pack("ii", 1, 0)
SEND_BUFFER = 256 * 1024
"""Bytes that the kernel keeps for a client that does not read; else it would be megabytes."""
WIRE = "octavo.wire"
"""Key of the scope: this protocol, for responses that write to its transport themselves."""


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection. Between the first byte of a request and its body the limits apply."""

    _in_head = False
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._start_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        self._end_stall()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_timer = self.loop.call_later(STALL_TIMEOUT, self.cut_off)

    def resume_writing(self) -> None:
        self._end_stall()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response("The request's headers are too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[WIRE] = self  # type: ignore[literal-required]
        self._start_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        size = sum(len(n) + len(v) for n, v in self.headers[-1:])
        if len(self.headers) > MAX_HEADER_FIELDS or size > MAX_HEAD_BYTES:
            raise ValueError("header limits")  # httptools turns it into a parser error

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets OpenAI's error form too, and the connection is closed."""
        self._end_head()
        if self.transport.is_closing():
            return
        body = msgspec.json.encode(error_body(InvalidRequest(msg)))
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            b"connection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        )
        self.transport.close()

    def _start_head(self) -> None:
        self._end_head()
        self._in_head = True
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT, self._head_expired)

    def _end_head(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

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

    def _head_expired(self) -> None:
        self.transport.close()
