"""Deadlines: requests that are of no use after a moment."""

from __future__ import annotations

import heapq

from octavo.services.scheduler.request import Request

Entry = tuple[float, int, Request]


class Deadlines:
    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._serial = 0

    def add(self, request: Request) -> None:
        """Does nothing for a request that has all the time in the world."""
        if request.deadline:
            self._serial += 1
            heapq.heappush(self._heap, (request.deadline, self._serial, request))

    def take_due(self, now: float) -> list[Request]:
        """Those whose moment has passed, and that have not ended."""
        due = []
        while self._heap and (self._heap[0][0] <= now or self._heap[0][2].over):
            request = heapq.heappop(self._heap)[2]
            if not request.over:
                due.append(request)
        return due

    def following(self) -> float:
        """When the next is due."""
        return self._heap[0][0] if self._heap else float("inf")
