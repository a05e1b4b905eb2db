"""Peers: the other frontends of this server, for streams that one of them keeps.

All frontends share a port, so a client that comes back may reach any of them. Each also listens on
a socket in the server's private folder, where the others fetch what is not theirs.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.types import Receive, Scope, Send

from octavo.services.frontend.edge import error_response
from octavo.shared.errors import Gone

if TYPE_CHECKING:
    import httpx

PASSED = ("authorization", "x-api-key", "last-event-id", "x-octavo-resumable")
HOP_HEADERS = (b"connection", b"transfer-encoding", b"content-length", b"date")


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
        path = peer_socket(self._folder, self.index)
        path.unlink(missing_ok=True)  # of one that died
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        return [listener]

    def elsewhere(self, stream_id: str) -> bool:
        return self._folder is not None and int(stream_id[:2], 16) != self.index

    async def pass_on(self, scope: Scope, receive: Receive, send: Send, stream_id: str) -> None:
        """Answer as the frontend does that keeps the stream, as long as the client is there."""
        answering = asyncio.create_task(self._answer(scope, receive, send, stream_id))
        leaving = asyncio.create_task(_left(receive))
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        for task in (answering, leaving):
            task.cancel()
        await asyncio.gather(answering, leaving, return_exceptions=True)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, stream_id: str) -> None:
        import httpx  # half of a frontend's other imports, and most never ask a peer

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
            missing = Gone("The frontend that kept this stream is gone.", code="stream_gone")
            await error_response(missing, scope["path"])(scope, receive, send)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _relay(got: httpx.Response, send: Send) -> None:
    kept = [pair for pair in got.headers.raw if pair[0].lower() not in HOP_HEADERS]
    start = {"type": "http.response.start", "status": got.status_code, "headers": kept}
    await send(start)
    async for block in got.aiter_raw():
        await send({"type": "http.response.body", "body": block, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
