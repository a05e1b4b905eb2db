"""Peers: the other frontends of this server, for streams that one of them keeps.

All frontends share a port, so a client that comes back may reach any of them. Each also listens on
a socket in the server's private folder, where the others fetch what is not theirs.
"""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
from starlette.types import Receive, Scope, Send

from octavo.services.frontend.edge import error_response
from octavo.shared.errors import NotFound

PASSED = ("authorization", "x-api-key", "last-event-id", "x-octavo-resumable")
HOP_HEADERS = (b"connection", b"transfer-encoding", b"content-length")


def peer_socket(folder: Path, index: int) -> Path:
    return folder / f"streams-{index}.sock"


class Peers:
    """`folder` None: there are no others."""

    def __init__(self, folder: Path | None = None, index: int = 0) -> None:
        self._folder = folder
        self.index = index

    def listeners(self) -> list[socket.socket]:
        """Where the others reach this frontend; the folder is private, so nobody else does."""
        if self._folder is None:
            return []
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(peer_socket(self._folder, self.index)))
        return [listener]

    def elsewhere(self, stream_id: str) -> bool:
        return self._folder is not None and int(stream_id[:2], 16) != self.index

    async def pass_on(self, scope: Scope, receive: Receive, send: Send, stream_id: str) -> None:
        """Answer as the frontend does that keeps the stream."""
        path = peer_socket(self._folder or Path(), int(stream_id[:2], 16))
        headers = [
            (name, value) for name, value in scope["headers"] if name.decode("latin-1") in PASSED
        ]
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        try:
            async with (
                httpx.AsyncClient(transport=transport, timeout=None) as client,
                client.stream("GET", f"http://peer/v1/streams/{stream_id}", headers=headers) as got,
            ):
                await _relay(got, send)
        except httpx.HTTPError:
            missing = NotFound("The frontend that kept this stream is gone.", code="stream_gone")
            await error_response(missing, scope["path"])(scope, receive, send)


async def _relay(got: httpx.Response, send: Send) -> None:
    kept = [pair for pair in got.headers.raw if pair[0].lower() not in HOP_HEADERS]
    start = {"type": "http.response.start", "status": got.status_code, "headers": kept}
    await send(start)
    async for block in got.aiter_raw():
        await send({"type": "http.response.body", "body": block, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
