"""A streamed answer, piece by piece."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from octavo.services.client.address import Refused, said

END = "[DONE]"


class Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class Choice(msgspec.Struct):
    """Of a chat's chunk, or a completion's."""

    delta: Delta = msgspec.field(default_factory=Delta)
    text: str = ""
    finish_reason: str | None = None


class Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Chunk(msgspec.Struct):
    choices: list[Choice] = []
    usage: Usage | None = None
    error: dict[str, Any] | str | None = None


@dataclass
class Timer:
    """When an answer's parts came, for `--stats`."""

    sent: float = field(default_factory=time.monotonic)
    first: float | None = None
    last: float = 0.0
    usage: Usage = field(default_factory=Usage)
    finish_reason: str | None = None

    def note(self) -> None:
        self.last = time.monotonic()
        if self.first is None:
            self.first = self.last

    def summary(self) -> str:
        """`[TTFT 45 ms, 120.3 tok/s, 9 + 34 tokens]`"""
        if self.first is None:
            return "[no token came]"
        tokens, seconds = self.usage.completion_tokens, self.last - self.first
        speed = f"{(tokens - 1) / seconds:.1f} tok/s" if tokens > 1 and seconds > 0 else "- tok/s"
        counts = f"{self.usage.prompt_tokens} + {tokens} tokens"
        return f"[TTFT {1e3 * (self.first - self.sent):.0f} ms, {speed}, {counts}]"


@dataclass(frozen=True)
class Piece:
    text: str
    thought: bool = False


def stream(client: httpx.Client, path: str, body: dict[str, Any], timer: Timer) -> Iterator[Piece]:
    """Raises Refused for an error, and httpx.RequestError for a connection that ends."""
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    with client.stream("POST", path, json=asked) as answer:
        if answer.status_code != 200:
            answer.read()
            raise Refused(said(answer))
        for line in answer.iter_lines():
            if line.startswith("data:") and (data := line[5:].strip()) != END:
                yield from _pieces(data, timer)


def _pieces(data: str, timer: Timer) -> Iterator[Piece]:
    try:
        chunk = msgspec.json.decode(data, type=Chunk)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Refused("the server's events are not those of OpenAI's API") from error
    if chunk.error is not None:
        named = chunk.error.get("message") if isinstance(chunk.error, dict) else None
        raise Refused(str(named or chunk.error))
    if chunk.usage is not None:
        timer.usage = chunk.usage
    for choice in chunk.choices:
        timer.finish_reason = choice.finish_reason or timer.finish_reason
        thought = choice.delta.reasoning_content or choice.delta.reasoning
        text = choice.delta.content or choice.text
        if thought or text:
            timer.note()
        if thought:
            yield Piece(thought, thought=True)
        if text:
            yield Piece(text)
