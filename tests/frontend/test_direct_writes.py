"""Events that go from the engine's message straight to the socket."""

from __future__ import annotations

import asyncio

import pytest
from front_engine import Frontend, RawCall, run

from octavo.shared.text.tokenizer import Tokenizer

PATH = "/v1/completions"
BODY = b'{"prompt": "Hi", "stream": true}'


class Transport:
    """As uvloop's: what is written after the end raises."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False
        self.broken = False

    def write(self, data: bytes) -> None:
        if self.closed or self.broken:
            raise RuntimeError("the handler is closed")
        self.written += data

    def is_closing(self) -> bool:
        return self.closed


class Wire:
    class Flow:
        write_paused = False

    def __init__(self) -> None:
        self.transport, self.flow = Transport(), self.Flow()


async def begun(front: Frontend) -> tuple[RawCall, Wire]:
    """A stream whose first token was sent; what follows goes to the wire."""
    wire = Wire()
    call = RawCall(front.app, PATH, BODY, wire=wire)
    await front.settle()
    front.engine.token(front.engine.submits[-1], 70, first=True)
    await front.settle()
    return call, wire


def test_later_tokens_are_written_as_chunks(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        call, wire = await begun(front)
        front.engine.token(front.engine.submits[0], 71)
        await front.settle()
        size, _, rest = wire.transport.written.partition(b"\r\n")
        assert rest.startswith(b"data: {") and len(rest) == int(size, 16) + 2
        front.engine.token(front.engine.submits[0], 72, last=True)
        await asyncio.wait_for(call.task, 5)
        assert wire.transport.written.rstrip().endswith(b"data: [DONE]")

    run(tokenizer, test, hold=True)


def test_tokens_behind_a_closed_connection_hurt_nobody(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        gone, wire = await begun(front)
        other, alive = await begun(front)
        wire.transport.closed = True  # the disconnect is still to be reported
        for submit in front.engine.submits:
            front.engine.token(submit, 71)
        await front.settle()
        assert not wire.transport.written and alive.transport.written
        gone.disconnect()
        await asyncio.wait_for(gone.task, 5)
        assert front.engine.aborted == [front.engine.submits[0].request_id]
        front.engine.token(front.engine.submits[1], 72, last=True)
        await asyncio.wait_for(other.task, 5)

    run(tokenizer, test, hold=True)


def test_a_reader_that_raises_ends_alone(
    tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(front: Frontend) -> None:
        failed, wire = await begun(front)
        other, alive = await begun(front)
        wire.transport.broken = True
        for submit in front.engine.submits:
            front.engine.token(submit, 71)
        await front.settle()
        assert alive.transport.written
        assert front.engine.aborted == [front.engine.submits[0].request_id]
        await asyncio.wait_for(failed.task, 5)
        front.engine.token(front.engine.submits[1], 72, last=True)
        await asyncio.wait_for(other.task, 5)
        assert "a reader failed" in caplog.text

    run(tokenizer, test, hold=True)
