"""Streams under faults: what each of many clients saw, and when."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

CONNECTIONS = httpx.Limits(max_connections=None, max_keepalive_connections=0)


def body_of(number: int, max_tokens: int) -> dict[str, Any]:
    """Request `number`: greedy or seeded, with penalties, logprobs and stop strings in some."""
    body: dict[str, Any] = {
        "prompt": f"{number}: Tell me something about the number {number * 37}.",
        "max_tokens": max_tokens,
        "ignore_eos": True,
        "stream": True,
        "seed": number,
        "temperature": 0.0 if number % 2 else 1.0,
        "return_token_ids": True,
        "stream_options": {"include_usage": True},
    }
    if number % 4 == 0:
        body |= {"presence_penalty": 0.5, "repetition_penalty": 1.1, "logprobs": 1}
    if number % 4 == 1:
        body |= {"stop": ["\x00never"], "min_tokens": max_tokens}
    return body


@dataclass
class Seen:
    """One stream. `gaps`: the waits for events, in seconds; `error`: how it went wrong."""

    ids: list[int] = field(default_factory=list)
    text: str = ""
    logprobs: int = 0
    usage: dict[str, Any] | None = None
    done: bool = False
    error: str | None = None
    gaps: list[float] = field(default_factory=list, repr=False)
    begun: bool = False
    first: float = 0.0
    """Seconds to the first event."""
    seconds: float = 0.0
    """Until it ended, well or not."""

    @property
    def outcome(self) -> tuple[Any, ...]:
        """All that must not depend on faults. Of usage, what was cached may."""
        usage = {} if self.usage is None else self.usage
        counts = [usage.get(key) for key in ("prompt_tokens", "completion_tokens", "total_tokens")]
        return self.ids, self.text, self.logprobs, counts, self.done, self.error


class Streams:
    """`count` streams against `url`, begun together; `run` returns what each saw."""

    def __init__(self, url: str, count: int, max_tokens: int) -> None:
        self.seen = [Seen() for _ in range(count)]
        self._url = url
        self._max_tokens = max_tokens

    @property
    def progress(self) -> float:
        """Tokens that have come, as a share of all."""
        return sum(len(one.ids) for one in self.seen) / (len(self.seen) * self._max_tokens)

    @property
    def begun(self) -> bool:
        """Whether each has got something."""
        return all(one.ids for one in self.seen)

    @property
    def longest_gap(self) -> float:
        return max((max(one.gaps, default=0.0) for one in self.seen), default=0.0)

    def run(self, fault: Callable[[], object] | None = None, at: float = 0.5) -> list[Seen]:
        """`fault` happens once `at` of all tokens have come."""
        asyncio.run(self._run(fault, at))
        return self.seen

    async def _run(self, fault: Callable[[], object] | None, at: float) -> None:
        async with httpx.AsyncClient(timeout=120, limits=CONNECTIONS) as client:
            tasks = [asyncio.create_task(self.one(client, i)) for i in range(len(self.seen))]
            while fault is not None and self.progress < at and not all(t.done() for t in tasks):
                await asyncio.sleep(0.005)
            if fault is not None:
                await asyncio.to_thread(fault)
            await asyncio.gather(*tasks)

    async def one(self, client: httpx.AsyncClient, number: int, **fields: object) -> None:
        """`fields`: of the request, beside those of `body_of`."""
        seen, body = self.seen[number], body_of(number, self._max_tokens) | fields
        began = time.monotonic()
        try:
            async with client.stream("POST", f"{self._url}/v1/completions", json=body) as answer:
                if answer.status_code != 200:
                    seen.error = (await answer.aread()).decode()
                    return
                seen.begun = True
                await self._read(answer, seen, began)
        except httpx.HTTPError as error:
            seen.error = repr(error)
        finally:
            seen.seconds = time.monotonic() - began

    async def _read(self, answer: httpx.Response, seen: Seen, began: float) -> None:
        last = time.monotonic()
        async for line in answer.aiter_lines():
            if line == "data: [DONE]":
                seen.done = True
            elif line.startswith("data: "):
                now = time.monotonic()
                seen.gaps.append(now - last)
                last = now
                seen.first = seen.first or now - began
                _take(json.loads(line[6:]), seen)


def longest(seen: Sequence[Seen]) -> float:
    """Seconds from the beginning of streams that began together to the last one's end."""
    return max(one.seconds for one in seen)


def _take(event: dict[str, Any], seen: Seen) -> None:
    if "error" in event:
        seen.error = event["error"]["code"]
        return
    for choice in event["choices"]:
        seen.ids += choice.get("token_ids") or []
        seen.text += choice["text"]
        seen.logprobs += len((choice.get("logprobs") or {}).get("tokens", []))
    seen.usage = event.get("usage") or seen.usage
