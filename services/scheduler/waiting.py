"""WaitingQueue: requests without a slot, in admission order."""

from __future__ import annotations

import bisect
from collections.abc import Callable

import numpy as np

from octavo.services.scheduler.request import Request

Order = tuple[float, float, int]


class Line:
    """One tenant's, sorted by `Request.order`: a preempted request returns to where it belongs.

    Two parallel sorted lists: an insertion moves pointers, which for the few thousand requests
    that admission lets wait is cheaper than any tree.
    """

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.requests: list[Request] = []

    def add(self, request: Request) -> None:
        index = bisect.bisect_left(self.orders, request.order)
        self.orders.insert(index, request.order)
        self.requests.insert(index, request)

    def discard(self, request: Request) -> bool:
        """Whether it was there."""
        index = bisect.bisect_left(self.orders, request.order)
        if index == len(self.requests) or self.requests[index] is not request:
            return False
        del self.orders[index], self.requests[index]
        return True


class WaitingQueue:
    """A line for each tenant. Next is, of the firsts of the lines with the best priority, the one
    whose tenant `had` least. Waiting makes a priority better (`aged`), but not better than the best
    there is: among equals it is no reason to be preferred.

    `num_tokens`: of all their sequences, so as much as is to be computed if the prefix cache has
    none of it.
    """

    def __init__(self, had: Callable[[int], float], aged: Callable[[Request], int]) -> None:
        self._had = had
        self._aged = aged
        self._lines: dict[int, Line] = {}
        self._count = 0
        self.num_tokens = 0

    def __len__(self) -> int:
        return self._count

    def add(self, request: Request) -> None:
        if (line := self._lines.get(request.tenant)) is None:
            line = self._lines[request.tenant] = Line()
        line.add(request)
        self._count += 1
        self.num_tokens += len(request.token_ids)

    def firsts(self) -> list[Request]:
        """Of each tenant, who is next."""
        return [line.requests[0] for line in self._lines.values()]

    def first(self) -> Request | None:
        if not self._lines:
            return None
        if len(self._lines) == 1:
            return next(iter(self._lines.values())).requests[0]
        firsts = self.firsts()
        best = min(one.priority for one in firsts)
        return min(
            firsts, key=lambda one: (max(self._aged(one), best), self._had(one.tenant), one.order)
        )

    def discard(self, request: Request) -> None:
        """Take the request out, if it waits."""
        line = self._lines.get(request.tenant)
        if line is None or not line.discard(request):
            return
        if not line.requests:
            del self._lines[request.tenant]
        self._count -= 1
        self.num_tokens -= len(request.token_ids)

    def take_all(self) -> list[Request]:
        """Everybody; nobody is left."""
        requests = [one for line in self._lines.values() for one in line.requests]
        self._lines.clear()
        self._count = self.num_tokens = 0
        return requests

    def extend(self, request: Request, token_id: np.int32) -> None:
        """An id arrives that was in flight when the request lost its slot."""
        request.token_ids = np.append(request.token_ids, token_id)
        if not request.is_held:
            self.num_tokens += 1
