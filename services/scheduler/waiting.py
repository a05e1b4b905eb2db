"""WaitingQueue: requests without a slot, in admission order."""

from __future__ import annotations

import bisect

import numpy as np

from octavo.services.scheduler.request import Request

Order = tuple[int, float, int]


class WaitingQueue:
    """Sorted by (priority, arrival, serial): a preempted request returns to where it belongs.

    Two parallel sorted lists: an insertion moves pointers, which for the few thousand requests
    that admission lets wait is cheaper than any tree. `num_tokens`: of all their sequences, so
    as much as is to be computed if the prefix cache has none of it.
    """

    def __init__(self) -> None:
        self._orders: list[Order] = []
        self._requests: list[Request] = []
        self.num_tokens = 0

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: Request) -> None:
        index = bisect.bisect_left(self._orders, request.order)
        self._orders.insert(index, request.order)
        self._requests.insert(index, request)
        self.num_tokens += len(request.token_ids)

    def first(self) -> Request | None:
        return self._requests[0] if self._requests else None

    def discard(self, request: Request) -> None:
        """Take the request out, if it waits."""
        index = bisect.bisect_left(self._orders, request.order)
        if index < len(self._requests) and self._requests[index] is request:
            del self._orders[index], self._requests[index]
            self.num_tokens -= len(request.token_ids)

    def take_all(self) -> list[Request]:
        """Everybody, in order; nobody is left."""
        requests, self._requests = self._requests, []
        self._orders.clear()
        self.num_tokens = 0
        return requests

    def extend(self, request: Request, token_id: np.int32) -> None:
        """An id arrives that was in flight when the request lost its slot."""
        request.token_ids = np.append(request.token_ids, token_id)
        if not request.is_held:
            self.num_tokens += 1
