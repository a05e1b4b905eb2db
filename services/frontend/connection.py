"""Connection: where a streamed response goes, straight to the socket where that is possible."""

from __future__ import annotations

from typing import Any

from starlette.types import Scope, Send

from octavo.services.frontend import access
from octavo.services.frontend.http_limits import WIRE

KEEP_ALIVE = b": keep-alive\n\n"
STREAM_HEADERS = {"X-Accel-Buffering": "no", "Cache-Control": "no-cache"}


class Connection:
    """One response. `write` may be used while `direct`, `send` always."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._send = send
        # HTTP/1.0 knows no chunks.
        self._wire: Any = scope.get(WIRE) if scope["http_version"] == "1.1" else None
        self._access = access.current()
        self.num_written = 0
        """Writes so far."""

    @property
    def direct(self) -> bool:
        """The socket is there and takes more."""
        wire = self._wire
        return wire is not None and not wire.flow.write_paused and not wire.transport.is_closing()

    @property
    def paused(self) -> bool:
        """Of a direct connection: the socket takes no more for now."""
        return bool(self._wire.flow.write_paused)

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def send(self, block: bytes) -> None:
        """Waits while the client is slow."""
        if block:
            self.num_written += 1
            await self._send({"type": "http.response.body", "body": block, "more_body": True})

    def write(self, block: bytes) -> None:
        """As one chunk of HTTP's chunked coding, which is what `send` makes of it too.

        A transport that is closing raises; its end is reported by the way of all disconnects.
        """
        if block and not self._wire.transport.is_closing():
            self.num_written += 1
            self._access.direct += len(block)
            self._wire.transport.write(b"%x\r\n%s\r\n" % (len(block), block))

    def cut_off(self) -> None:
        """The client reads nothing, or too little."""
        if self._wire is not None:
            self._wire.cut_off()

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
