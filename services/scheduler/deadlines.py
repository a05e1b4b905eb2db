"""Deadlines: moments after which a request is of no use, if it has not come so far."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from octavo.services.scheduler.request import Request
from octavo.shared.messages import Until

SLACK = 64
"""Entries of the past that are not worth a look."""

Missed = Callable[[Request], bool]
Entry = tuple[float, int, Request, str]

MISSED: dict[str, tuple[Missed, str]] = {
    "queue": (lambda one: one.cached_tokens is None, "waited too long in the queue"),
    "ttft": (lambda one: not one.first_token_time, "had no token by its deadline"),
    "total": (lambda one: True, "was not done by its deadline"),
}


class Deadlines:
    """Entries stay where they are when they lose their meaning, as most do long before they are
    due; when half of them may have, they are looked through."""

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._serial = 0
        self._most = SLACK

    def __len__(self) -> int:
        """Entries, those of the past included."""
        return len(self._heap)

    def add(self, request: Request, until: Until) -> None:
        """Does nothing for a request that has all the time in the world."""
        if len(self._heap) > self._most:
            self._clean()
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
            if _matters(request, kind):
                due.append((request, MISSED[kind][1]))
        return due

    def following(self) -> float:
        """When the next is due."""
        return self._heap[0][0] if self._heap else float("inf")

    def _clean(self) -> None:
        self._heap = [entry for entry in self._heap if _matters(entry[2], entry[3])]
        heapq.heapify(self._heap)
        self._most = 2 * len(self._heap) + SLACK


def _matters(request: Request, kind: str) -> bool:
    is_missed, _ = MISSED[kind]
    return not request.over and is_missed(request)
