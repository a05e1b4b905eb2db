"""On whose behalf a request runs, and until when."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from front_engine import Frontend, frontend

from octavo.shared.messages import NO_HURRY
from octavo.shared.text.tokenizer import Tokenizer

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "Hi"}]
HEADER = "X-Request-Deadline-Ms"


def run(tokenizer: Tokenizer, test: Callable[[Frontend], Awaitable[None]], **config: Any) -> None:
    async def main() -> None:
        async with frontend(tokenizer, "Hello", **config) as front:
            await test(front)

    asyncio.run(main())


def test_the_earlier_of_both_deadlines_counts(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        for header, field, seconds in ((9000, 2000, 2), (3000, 8000, 3), (4000, None, 4)):
            body = {"messages": HI, **({"deadline_ms": field} if field else {})}
            await front.client.post(CHAT, json=body, headers={HEADER: str(header)})
            left = front.engine.submits[-1].until.end - time.monotonic()
            assert seconds - 0.5 < left <= seconds
        await front.post(CHAT, messages=HI)
        assert front.engine.submits[-1].until == NO_HURRY

    run(tokenizer, test)


def test_deadlines_for_parts(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        body = {"messages": HI, "deadline_ms": {"queue": 4000, "total": 9000}}
        headers = {HEADER: "queue=5000, ttft=2000"}
        await front.client.post(CHAT, json=body, headers=headers)
        until, now = front.engine.submits[-1].until, time.monotonic()
        left = (until.queue - now, until.first_token - now, until.end - now)
        assert [math.ceil(one) for one in left] == [4, 2, 9]

    run(tokenizer, test)


@pytest.mark.parametrize(
    "value",
    [
        "0",
        "-1",
        "1e3",
        "soon",
        "",
        "99999999999",
        "86400001",
        "٣",
        "ttft=",
        "queue=0",
        "total=5;",
        "first=5",
    ],
)
def test_a_header_that_is_no_deadline(tokenizer: Tokenizer, value: str) -> None:
    async def test(front: Frontend) -> None:
        headers = {HEADER: value.encode()}
        answer = await front.client.post(CHAT, json={"messages": HI}, headers=headers)  # type: ignore[arg-type]
        assert answer.status_code == 400 and answer.json()["error"]["param"] == HEADER

    run(tokenizer, test)


def test_a_deadline_that_has_passed_is_504(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.engine.error = ("deadline_exceeded", None)
        answer = await front.post(CHAT, messages=HI)
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "deadline_exceeded"

    run(tokenizer, test)


def test_tenants_are_keys_where_there_are_several(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        for key in "ab":
            for user in ("x", "y"):
                headers = {"Authorization": f"Bearer {key}"}
                body = {"messages": HI, "user": user}
                await front.client.post(CHAT, json=body, headers=headers)
        first, again, other, _ = (submit.tenant for submit in front.engine.submits)
        assert first == again != other and first

    run(tokenizer, test, api_key=["a", "b"])
