"""Deadlines: moments after which a request is of no use, if it has not come so far."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from octavo.services.scheduler.request import Request
from octavo.shared.messages import Until

Missed = Callable[[Request], bool]
Entry = tuple[float, int, Request, str]

MISSED: dict[str, tuple[Missed, str]] = {
    "queue": (lambda one: one.cached_tokens is None, "waited too long in the queue"),
    "ttft": (lambda one: not one.first_token_time, "had no token by its deadline"),
    "total": (lambda one: True, "was not done by its deadline"),
}


class Deadlines:
    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._serial = 0

    def add(self, request: Request, until: Until) -> None:
        """Does nothing for a request that has all the time in the world."""
        moments = zip(MISSED, (until.queue, until.first_token, until.end), strict=True)
        for kind, moment in moments:
            if moment:
                self._serial += 1
                heapq.heappush(self._heap, (moment, self._serial, request, kind))

    def take_due(self, now: float) -> list[tuple[Request, str]]:
        """(request, what it failed to do) of those that are late, and have not ended."""
        due = []
        while self._heap and (self._heap[0][0] <= now or self._heap[0][2].over):
            _, _, request, kind = heapq.heappop(self._heap)
            is_missed, words = MISSED[kind]
            if not request.over and is_missed(request):
                due.append((request, words))
        return due

    def following(self) -> float:
        """When the next is due."""
        return self._heap[0][0] if self._heap else float("inf")
