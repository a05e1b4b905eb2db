"""Lobby: what frontends send while there are no workers yet is kept for the engine to come.

A scheduler that is started while the workers are away cannot plan: it does not know how much KV
cache there will be. But it can say that it is there, so that nobody gives up waiting.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterable

from octavo.shared.messages import (
    Abort,
    EngineStats,
    Finished,
    Hello,
    Outputs,
    Submit,
    ToFrontend,
    ToScheduler,
)
from octavo.shared.transport import HubLike

STATS_INTERVAL = 0.5
"""Seconds."""


class Lobby:
    """A hub of frontends in front of the true one. Once the engine receives, it is only passed on.

    `max_requests`, and prompts of `max_tokens` together, wait for the engine; what an earlier
    scheduler took in is never refused, nor is a later step of it.
    """

    def __init__(
        self,
        hub: HubLike[ToFrontend, ToScheduler],
        max_requests: int,
        max_tokens: int,
        epoch: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hub = hub
        self._max_requests = max_requests
        self._max_tokens = max_tokens
        self._epoch = epoch
        self._clock = clock
        self.opened = clock()
        """Whoever came later, came to this scheduler."""
        self._kept: collections.deque[tuple[bytes, ToScheduler]] = collections.deque()
        self._waiting: dict[bytes, int] = {}
        """Tokens of its prompt, by request."""
        self._num_tokens = 0
        self._known: dict[bytes, None] = {}
        self._due = 0.0

    @property
    def num_malformed(self) -> int:
        return self._hub.num_malformed

    def wait(self) -> None:
        """Take in what has come, and report."""
        while (item := self._hub.receive()) is not None:
            self._keep(*item)
        if (now := self._clock()) >= self._due:
            self._due = now + STATS_INTERVAL
            for peer in self._known:
                self._hub.send(peer, self._stats())

    def receive(self) -> tuple[bytes, ToScheduler] | None:
        return self._kept.popleft() if self._kept else self._hub.receive()

    def send(self, peer: bytes, message: ToFrontend) -> None:
        self._hub.send(peer, message)

    def _keep(self, peer: bytes, message: ToScheduler) -> None:
        match message:
            case Hello():
                if peer in self._known:
                    return
                self._known[peer] = None
                self._hub.send(peer, self._stats())
            case Submit():
                if self._is_new(message) and not self._has_room(message):
                    refused = Finished(message.request_id, "error", error="overloaded")
                    self._hub.send(peer, Outputs(finished=[refused]))
                    return
                self._forget([message.request_id])  # sent to an earlier scheduler, and again
                self._waiting[message.request_id] = message.prompt_len
                self._num_tokens += message.prompt_len
            case Abort():
                self._forget(message.request_ids)
            case _:
                return  # asked again, if it is still wanted
        self._kept.append((peer, message))

    def _forget(self, request_ids: Iterable[bytes]) -> None:
        for request_id in request_ids:
            self._num_tokens -= self._waiting.pop(request_id, 0)

    def _is_new(self, submit: Submit) -> bool:
        return not submit.goes_on and submit.arrival_time >= self.opened

    def _has_room(self, submit: Submit) -> bool:
        """A prompt that would wait alone may be of any length, as with the engine."""
        if len(self._waiting) >= self._max_requests:
            return False
        return not self._num_tokens or self._num_tokens + submit.prompt_len <= self._max_tokens

    def _stats(self) -> EngineStats:
        return EngineStats(
            step=0,
            running=0,
            waiting=len(self._waiting),
            blocks_used=0,
            blocks_total=0,
            epoch=self._epoch,
            degraded=True,
        )
