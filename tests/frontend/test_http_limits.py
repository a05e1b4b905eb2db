"""What a connection may hold and for how long, on the protocol alone, with short times."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from octavo.services.frontend import http_limits
from octavo.services.frontend.http_limits import MAX_HEAD_BYTES, LimitedHttpProtocol
from octavo.services.frontend.server import create_server

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
LONG = 20.0
"""Seconds that no test takes unless it fails."""
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
SIZED = POST + b"Content-Length: 1000\r\n\r\n"
LARGE = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"
PIECE = bytes(1 << 16)
PIECES = 40
"""Of an answer that no socket's buffer holds."""


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_limits, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(http_limits, "LINGER_SECONDS", 0.3)


class App:
    """Answers with what it was sent, or at once without looking at it; `held`: answers that wait
    for it to be set. `ended`: an answer has been written, or cannot be any more."""

    def __init__(self, reads: bool) -> None:
        self.reads = reads
        self.headers: list[list[tuple[bytes, bytes]]] = []
        self.held = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", self.reads
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        if scope["path"] == "/large":
            return await self._write_much(send)
        if scope["path"] == "/held":
            await self.held.wait()
        self.headers.append(scope["headers"])
        length = str(len(body)).encode()
        start = {"status": 200, "headers": [(b"content-length", length)]}
        await send({"type": "http.response.start", **start})
        await send({"type": "http.response.body", "body": body})

    async def _write_much(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(PIECES):
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        self.ended.set()


@asynccontextmanager
async def listening(app: App) -> AsyncIterator[Connect]:
    config = create_server(app).config
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: LimitedHttpProtocol(config, state, {}), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    writers: list[asyncio.StreamWriter] = []

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        return reader, writer

    try:
        yield connect
    finally:
        for writer in writers:
            writer.close()
        server.close()
        await asyncio.gather(*state.tasks)


def run(test: Callable[[App, Connect], Awaitable[None]], reads: bool = True) -> None:
    async def main() -> None:
        app = App(reads)
        async with asyncio.timeout(LONG), listening(app) as connect:
            await test(app, connect)

    asyncio.run(main())


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Until the server closes."""
    found = b""
    try:
        while data := await reader.read(1 << 16):
            found += data
    except ConnectionResetError:
        pass
    return found


OVERHEADS = {
    "a trailer": (b"0\r\nX-Trailer: ", b"a" * 4096),
    "trailers": (b"0\r\n", b"A: b\r\n" * 700),
    "an extension": (b"5;ext=", b"a" * 4096),
    "zeros": (b"", b"0" * 4096),
}


@pytest.mark.parametrize("name", OVERHEADS)
def test_what_is_no_part_of_a_body_has_a_bound(name: str) -> None:
    begin, more = OVERHEADS[name]

    async def test(app: App, connect: Connect) -> None:
        reader, writer = await connect()
        writer.write(CHUNKED + begin)
        sent = 0
        while sent < 16 * MAX_HEAD_BYTES and not writer.is_closing() and not reader.at_eof():
            writer.write(more)
            sent += len(more)
            try:
                await writer.drain()
            except ConnectionError:
                break
            await asyncio.sleep(0)
        assert sent < 16 * MAX_HEAD_BYTES
        assert (await rest(reader))[:12] in (b"HTTP/1.1 400", b"")

    run(test)


def test_a_body_in_small_chunks_passes() -> None:
    """However much of it their frames are."""

    async def test(app: App, connect: Connect) -> None:
        reader, writer = await connect()
        writer.write(CHUNKED)
        for _ in range(2 * MAX_HEAD_BYTES // 100):
            writer.write(b"1;" + b"x" * 100 + b"\r\na\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")

    run(test)


def test_trailers_are_no_headers() -> None:
    """A key, or an id, of a trailer would be one that no proxy has seen."""

    async def test(app: App, connect: Connect) -> None:
        reader, writer = await connect()
        writer.write(CHUNKED + b"1\r\na\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        assert [name for name, _ in app.headers[0]] == [b"host", b"transfer-encoding"]

    run(test)


@pytest.mark.parametrize("kind", ["fields", "a url"])
def test_a_head_in_one_piece_has_its_bound_too(kind: str) -> None:
    field = b"X: " + b"a" * 4000 + b"\r\n"
    long = b"a" * 70_000
    fields = b"GET / HTTP/1.1\r\nHost: x\r\n" + field * 17
    head = fields if kind == "fields" else b"GET /?" + long + b" HTTP/1.1\r\nHost: x\r\n"

    async def test(app: App, connect: Connect) -> None:
        reader, writer = await connect()
        writer.write(head + b"\r\n")
        assert (await rest(reader)).startswith(b"HTTP/1.1 400")
        assert app.headers == []

    run(test)


@pytest.mark.parametrize("head", [SIZED, CHUNKED])
def test_an_answered_request_whose_body_does_not_end_is_closed(head: bytes) -> None:
    """Also where bytes go on coming."""

    async def test(app: App, connect: Connect) -> None:
        reader, writer = await connect()
        writer.write(head)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        closed = asyncio.create_task(rest(reader))
        while not closed.done():
            writer.write(b"1\r\na\r\n" if head == CHUNKED else b"x")
            await asyncio.sleep(0.05)

    run(test, reads=False)


def test_a_body_that_ends_after_its_answer_costs_no_connection() -> None:
    async def test(app: App, connect: Connect) -> None:
        reader, writer = await connect()
        for _ in range(2):
            writer.write(SIZED + b"x" * 10)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            writer.write(b"x" * 990)
        await asyncio.sleep(0.5)
        writer.write(POST + b"Content-Length: 0\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")

    run(test, reads=False)


def test_a_body_that_nobody_ends_is_closed() -> None:
    async def test(app: App, connect: Connect) -> None:
        reader, writer = await connect()
        writer.write(SIZED + b"x")
        assert await rest(reader) == b""

    run(test)


def test_a_request_that_waits_for_its_turn_has_all_its_time() -> None:
    """Nothing of it is read meanwhile, so its sender cannot go on."""

    async def test(app: App, connect: Connect) -> None:
        reader, writer = await connect()
        writer.write(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n" + SIZED + b"x" * 10)
        await asyncio.sleep(0.5)
        app.held.set()
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.write(b"x" * 990)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")

    run(test)


def test_an_idle_connection_ends_however_it_became_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of a body, or an empty line, came after the answer."""

    async def test(app: App, connect: Connect) -> None:
        for late in (b"x" * 1000, b"x" * 1000 + b"\r\n"):
            reader, writer = await connect()
            writer.write(SIZED)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            writer.write(late)
            assert await rest(reader) == b""

    monkeypatch.setattr("octavo.services.frontend.server.KEEP_ALIVE_SECONDS", 1)
    run(test, reads=False)


def test_what_is_no_http_does_not_break_into_an_answer() -> None:
    async def test(app: App, connect: Connect) -> None:
        reader, writer = await connect()
        writer.write(SIZED)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.write(b"x" * 1000 + b"\x00\x01\r\n\r\n")
        assert b"400" in await rest(reader)  # a message of its own
        reader, writer = await connect()
        writer.write(CHUNKED)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.write(b"no chunk\r\n")
        assert await rest(reader) == b""

    run(test, reads=False)


async def ask_for_much(connect: Connect) -> asyncio.StreamReader:
    """Over a socket that takes little by itself."""
    reader, writer = await connect()
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, len(PIECE))
    writer.write(LARGE)
    return reader


def test_f13_a_client_that_reads_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a reset, so that the kernel keeps nothing for it either."""

    async def test(app: App, connect: Connect) -> None:
        began = time.monotonic()
        reader = await ask_for_much(connect)
        await app.ended.wait()
        assert time.monotonic() - began >= 0.5
        with pytest.raises(ConnectionResetError):
            while await reader.read(len(PIECE)):
                pass

    monkeypatch.setattr(http_limits, "STALL_TIMEOUT", 0.5)
    run(test)


def test_f13_a_client_that_reads_slowly_gets_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes: only who takes nothing is cut off."""

    async def test(app: App, connect: Connect) -> None:
        began, taken = time.monotonic(), 0
        reader = await ask_for_much(connect)
        while data := await reader.read(len(PIECE)):
            taken += len(data)
            if data.endswith(b"\r\n0\r\n\r\n"):
                break
            await asyncio.sleep(0.04)
        assert taken > PIECES * len(PIECE) and time.monotonic() - began > 1

    monkeypatch.setattr(http_limits, "STALL_TIMEOUT", 1.0)
    run(test)
