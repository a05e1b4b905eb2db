"""What feeds the live page: who asks the scheduler, how often, and when a stream ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from front_engine import Frontend, frontend

from octavo.services.frontend import engine_client
from octavo.services.frontend.live import feed as live_feed
from octavo.services.frontend.live.feed import LiveFeed
from octavo.shared.messages import EngineStats
from octavo.shared.text.tokenizer import Tokenizer

INTERVAL = 0.05
DEGRADED = EngineStats(step=1, running=0, waiting=0, blocks_used=0, blocks_total=8, degraded=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_feed, "INTERVAL", INTERVAL)


def run(tokenizer: Tokenizer, test: Callable[[Frontend, LiveFeed], Awaitable[None]]) -> None:
    async def main() -> None:
        async with frontend(tokenizer) as front:
            await test(front, LiveFeed(front.engine_client))

    asyncio.run(main())


async def events(feed: LiveFeed, most: int = 10**6) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    following = feed.follow()
    async for text in following:
        found.append(json.loads(text.removeprefix(b"data: ")))
        if len(found) == most:
            break
    return found


def test_all_who_watch_share_a_snapshot(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend, feed: LiveFeed) -> None:
        watching = [events(feed, 4) for _ in range(5)]
        found = await asyncio.gather(*watching)
        assert front.engine.pages == ["snapshot"] * 4
        assert found == [[{"state": "ready", "totals": {}}] * 4] * 5

    run(tokenizer, test)


def test_one_who_comes_between_two_snapshots_has_none_made(tokenizer: Tokenizer) -> None:
    """However their moments lie, two watchers cost what one costs."""

    async def test(front: Frontend, feed: LiveFeed) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        first = asyncio.create_task(events(feed, 6))
        await asyncio.sleep(INTERVAL / 2)
        await asyncio.gather(first, events(feed, 3))
        assert len(front.engine.pages) == 6
        assert loop.time() - began >= 5 * INTERVAL

    run(tokenizer, test)


def test_nobody_watches_nothing_is_asked(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend, feed: LiveFeed) -> None:
        await events(feed, 1)
        asked = len(front.engine.pages)
        await asyncio.sleep(4 * INTERVAL)
        assert len(front.engine.pages) == asked

    run(tokenizer, test)


def test_a_stream_ends_after_a_minute(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert live_feed.LONGEST == 60
    monkeypatch.setattr(live_feed, "LONGEST", 3 * INTERVAL)

    async def test(front: Frontend, feed: LiveFeed) -> None:
        assert 1 < len(await events(feed)) <= 5

    run(tokenizer, test)


def test_a_draining_server_says_so_once_and_ends_the_stream(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend, feed: LiveFeed) -> None:
        front.engine_client.closing = True
        assert await events(feed) == [{"state": "draining", "totals": {}}]

    run(tokenizer, test)


def test_without_workers_it_is_degraded(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend, feed: LiveFeed) -> None:
        front.engine_client.receive(DEGRADED)
        [found] = await events(feed, 1)
        assert found["state"] == "degraded" and "totals" in found

    run(tokenizer, test)


@pytest.mark.parametrize(("closing", "state"), [(False, "no answer"), (True, "draining")])
def test_a_scheduler_that_does_not_answer(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, closing: bool, state: str
) -> None:
    """Nothing that is old passes for new."""
    monkeypatch.setattr(engine_client, "METRICS_TIMEOUT", 0.05)

    async def test(front: Frontend, feed: LiveFeed) -> None:
        front.engine.answers_metrics = False
        front.engine_client.closing = closing
        assert await events(feed, 1) == [{"state": state}]

    run(tokenizer, test)
