"""Replay: streams whose events are kept for a while, so that a client may come back.

Events are numbered from 1 and carry `id: <stream>-<number>`. The generation goes on without its
client; nothing is computed twice. Streams that nobody reads for KEEP_SECONDS are aborted and
forgotten.
"""

from __future__ import annotations

import asyncio
import collections
import re
import secrets
from collections.abc import Callable

from octavo.services.frontend.generation import Generation
from octavo.services.frontend.inbox import ClientGone
from octavo.services.frontend.pump import Pump
from octavo.shared.errors import Gone, NotFound

KEEP_SECONDS = 60.0
STREAM_BYTES = 4 << 20
TOTAL_BYTES = 256 << 20
EVENT_ID = re.compile(r"([0-9a-f]{34})-(\d{1,9})")
"""<two digits of the frontend, 128 random bits>-<event>"""
STREAM_PATH = re.compile(r"/v1/streams/([0-9a-f]{34})")


class Replay:
    """One stream: the generation, and the events that are still kept."""

    def __init__(
        self,
        stream_id: str,
        owner: bytes,
        generation: Generation,
        pump: Pump,
        on_growth: Callable[[], None],
    ) -> None:
        self.stream_id = stream_id
        self.owner = owner
        """Of whose API key it is."""
        self.num_bytes = 0
        self.dropped = False
        self._on_growth = on_growth
        self._generation = generation
        self._pump = pump
        self._events: collections.deque[bytes] = collections.deque()
        self._count = 0
        """Events so far; the last of them is the last that is kept."""
        self.readers = 0
        self.left_at = asyncio.get_running_loop().time()
        self.reader: asyncio.Event | None = None
        """Set when there is news for whoever reads; only the last reader's."""

    @property
    def over(self) -> bool:
        return self._pump.over

    def follow(self, events: list[bytes]) -> None:
        """Keep these events, and those to come."""
        self._add(events)
        if self.over:
            self.close()
            return
        self._generation.watch(self._on_news)
        self._on_news()

    def after(self, number: int) -> tuple[list[bytes], int]:
        """Events behind event `number`, and the number of the last. Raises Gone where some of
        them are not kept any more."""
        missing = self._count - number
        if self.dropped or missing > len(self._events) or missing < 0:
            raise Gone("These events are not kept any more.", code="stream_gone")
        start = len(self._events) - missing
        return [self._events[i] for i in range(start, len(self._events))], self._count

    def drop(self) -> None:
        """Forget it; who reads it is told."""
        self.dropped = True
        self.close()
        self._wake()

    def close(self) -> None:
        self._generation.watch(None)
        self._generation.close()

    def _on_news(self) -> None:
        try:
            more = True
            while more:
                self._add(self._pump.take())
                more = self._pump.has_more
        except ClientGone:
            return
        if self.over:
            self.close()
        self._wake()

    def _wake(self) -> None:
        if self.reader is not None:
            self.reader.set()

    def _add(self, events: list[bytes]) -> None:
        for event in events:
            self._count += 1
            kept = b"id: %s-%d\n%s" % (self.stream_id.encode(), self._count, event)
            self._events.append(kept)
            self.num_bytes += len(kept)
        while self.num_bytes > STREAM_BYTES:
            self.num_bytes -= len(self._events.popleft())
        self._on_growth()


class Replays:
    """The streams of one frontend that may be resumed."""

    def __init__(self, frontend: int = 0) -> None:
        self._frontend = frontend
        self._streams: dict[str, Replay] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    def open(self, owner: bytes, generation: Generation, pump: Pump) -> Replay:
        stream_id = f"{self._frontend:02x}{secrets.token_hex(16)}"
        replay = self._streams[stream_id] = Replay(stream_id, owner, generation, pump, self._bound)
        self._sweep()
        return replay

    def find(self, stream_id: str, owner: bytes) -> Replay:
        """Raises NotFound; whose the stream is not gets no other answer."""
        replay = self._streams.get(stream_id)
        if replay is None or not secrets.compare_digest(replay.owner, owner):
            raise NotFound("This stream is unknown here, or has expired.", code="stream_not_found")
        return replay

    def _sweep(self) -> None:
        """Forget what nobody has read for too long."""
        loop = asyncio.get_running_loop()
        for one in list(self._streams.values()):
            if not one.readers and loop.time() - one.left_at > KEEP_SECONDS:
                del self._streams[one.stream_id]
                one.drop()
        self._bound()
        if self._streams and self._sweeper is None:
            self._sweeper = loop.call_later(KEEP_SECONDS / 4, self._sweep_again)

    def _bound(self) -> None:
        """The oldest go where all is too much."""
        total = sum(one.num_bytes for one in self._streams.values())
        while total > TOTAL_BYTES:
            oldest = self._streams.pop(next(iter(self._streams)))
            total -= oldest.num_bytes
            oldest.drop()

    def _sweep_again(self) -> None:
        self._sweeper = None
        self._sweep()
