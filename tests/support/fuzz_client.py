"""Sends generated requests over raw sockets, many at once, and judges the answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from dataclasses import dataclass, field

from fuzz_requests import Fuzzer, FuzzRequest

ANSWER_SECONDS = 120.0


@dataclass
class Verdict:
    """What came back: how often each status, and what should not have been."""

    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def take(self, request: FuzzRequest, status: str, fault: str | None) -> None:
        self.statuses[status] += 1
        if fault is not None:
            body = request.body[:600].decode("utf-8", "replace")
            self.faults.append(f"#{request.number} {request.path}: {fault}\n    {body}")


async def fuzz(port: int, fuzzer: Fuzzer, numbers: range, concurrency: int = 24) -> Verdict:
    """Send these requests, `concurrency` at a time."""
    verdict = Verdict()
    waiting = iter(numbers)

    async def work() -> None:
        for number in waiting:
            request = fuzzer.request(number)
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    status, fault = await _exchange(port, request)
            except TimeoutError:
                status, fault = "none", "no answer"
            verdict.take(request, status, fault)

    await asyncio.gather(*(work() for _ in range(concurrency)))
    return verdict


async def _exchange(port: int, request: FuzzRequest) -> tuple[str, str | None]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        message = request.head() + request.body
        if request.leaves_after is not None:
            writer.write(message[: int(len(message) * request.cut)])
            await writer.drain()
            await asyncio.sleep(request.leaves_after)
            return "left", None
        writer.write(message)
        await writer.drain()
        return _judge(request, await reader.read())
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _judge(request: FuzzRequest, answer: bytes) -> tuple[str, str | None]:
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    status = lines[0][9:12]  # behind "HTTP/1.1 "
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = _dechunked(body)
    return status, _fault(request, status, headers.get("content-type", ""), body)


def _fault(request: FuzzRequest, status: str, kind: str, body: bytes) -> str | None:
    if b'"code":"deadline_exceeded"' in body:
        return (
            None if b"deadline" in request.head() + request.body else "a deadline never asked for"
        )
    if not status.isdecimal() or int(status) >= 500:
        return f"status {status or 'none'}: {body[:300]!r}"
    if request.method == "HEAD" or not body:
        return None
    if kind.startswith("text/event-stream"):
        return _stream_fault(body)
    if kind.startswith("application/json"):
        try:
            answer = json.loads(body)
        except ValueError:
            return f"no JSON: {body[:300]!r}"
        if int(status) >= 400 and not _message_of(answer):
            return f"an error without a message: {body[:300]!r}"
    return None


def _stream_fault(body: bytes) -> str | None:
    if not body.endswith(b"\n\n"):
        return f"a stream cut off: {body[-200:]!r}"
    if b'"server_error"' in body or b'"code":"internal_error"' in body:
        return f"an error in a stream: {body[-300:]!r}"
    return None


def _message_of(answer: object) -> object:
    error = answer.get("error") if isinstance(answer, dict) else None
    return error.get("message") if isinstance(error, dict) else None


def _dechunked(body: bytes) -> bytes:
    parts = []
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size or b"0", 16)
        parts.append(body[:length])
        body = body[length + 2 :]
    return b"".join(parts)
