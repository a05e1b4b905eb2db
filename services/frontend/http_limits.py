"""uvicorn's HTTP protocol with limits on a request's head: bytes, fields and time.

Without them a client that sends headers for ever, or not at all, holds memory or a connection.
"""

from __future__ import annotations

import asyncio

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from octavo.services.frontend.edge import error_body
from octavo.shared.errors import InvalidRequest

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADER_FIELDS = 100
HEAD_TIMEOUT = 10.0
WIRE = "octavo.wire"
"""Key of the scope: this protocol, for responses that write to its transport themselves."""


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection. Between the first byte of a request and its body the limits apply."""

    _in_head = False
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

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

    def _head_expired(self) -> None:
        self.transport.close()
