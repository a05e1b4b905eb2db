"""The least that a streaming server in Python does: starlette, one json.dumps an event.

    python bench/front/plain_server.py FD MILLISECONDS

Listens on the inherited socket FD. No tokenizer, no engine, no checks: every stream gets a token
each so many milliseconds, up to its `max_tokens`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import time
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route


class Beat:
    """Wakes every waiting stream at once, as a step's message does."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._following = asyncio.Event()

    async def run(self) -> None:
        following = time.perf_counter()
        while True:
            following += self._interval
            await asyncio.sleep(max(following - time.perf_counter(), 0))
            due, self._following = self._following, asyncio.Event()
            due.set()

    async def wait(self) -> None:
        await self._following.wait()


async def events(beat: Beat, count: int) -> AsyncIterator[str]:
    created = int(time.time())
    for position in range(count):
        await beat.wait()
        finish = "length" if position == count - 1 else None
        choice = {"index": 0, "text": " word", "logprobs": None, "finish_reason": finish}
        chunk = {
            "id": "cmpl-0123456789abcdef",
            "object": "text_completion",
            "created": created,
            "model": "tiny",
            "choices": [choice],
        }
        yield f"data: {json.dumps(chunk)}\n\n"
    usage = {"prompt_tokens": 1, "completion_tokens": count, "total_tokens": count + 1}
    yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n"


def create_app(beat: Beat) -> Starlette:
    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        beating = asyncio.create_task(beat.run())
        yield
        beating.cancel()

    async def completions(request: Request) -> Response:
        wanted = await request.json()
        stream = events(beat, wanted["max_tokens"])
        return StreamingResponse(stream, media_type="text/event-stream")

    async def health(request: Request) -> Response:
        return Response()

    routes = [Route("/v1/completions", completions, methods=["POST"]), Route("/health", health)]
    return Starlette(routes=routes, lifespan=lifespan)


def main(descriptor: int, interval: float) -> None:
    app = create_app(Beat(interval))
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", access_log=False, log_level="error"
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]) / 1e3)
