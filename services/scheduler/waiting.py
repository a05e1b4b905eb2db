"""WaitingQueue: requests without a slot, in admission order."""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections.abc import Callable, Iterator, Set

import numpy as np
import numpy.typing as npt

from octavo.services.scheduler.request import Request

Order = tuple[float, float, int]
Floats = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
NOBODY: frozenset[int] = frozenset()


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


def _order(request: Request) -> Order:
    return request.order


class WaitingQueue:
    """A line for each tenant. Next is, of the firsts of the lines with the best priority, the one
    whose tenant's `standing` is least. Waiting makes a priority better (`aged`), but not better
    than the best there is: among equals it is no reason to be preferred.

    `standing(tenants)`: float64[keys, n], by which tenants int64[n] are compared; `aged(priorities,
    arrivals)`: float64[n].
    """

    def __init__(
        self, standing: Callable[[Longs], Floats], aged: Callable[[Floats, Floats], Floats]
    ) -> None:
        self._standing = standing
        self._aged = aged
        self._lines: dict[int, Line] = {}
        self._firsts: Floats = np.full((4, 8), np.inf)
        """[priority, rank, arrival, serial] of the first in each tenant's line, by its number."""
        self._tokens: Floats = np.zeros(8)
        """Of their sequences, by tenant."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, request: Request) -> None:
        if (line := self._lines.get(request.tenant)) is None:
            line = self._lines[request.tenant] = Line()
        line.add(request)
        self._note(request.tenant, len(request.token_ids))
        self._count += 1

    @property
    def num_tokens(self) -> int:
        """Of all their sequences: what is to be computed if the prefix cache has none of it."""
        return int(self._tokens.sum())

    def tokens(self, size: int) -> Floats:
        """The same by tenant, float64[size]."""
        return np.resize(np.concatenate([self._tokens, np.zeros(size)]), size)

    def firsts(self) -> Iterator[Request]:
        """Of each tenant, who is next."""
        return (line.requests[0] for line in self._lines.values())

    def heads(self, most: int) -> list[Request]:
        """The first so many by their order, whose turn it may not be yet."""
        lines = heapq.nsmallest(most, self._lines.values(), key=lambda line: line.orders[0])
        merged = heapq.merge(*(line.requests[:most] for line in lines), key=_order)
        return list(itertools.islice(merged, most))

    def first_of(self, tenant: int) -> Request | None:
        line = self._lines.get(tenant)
        return None if line is None else line.requests[0]

    def best_priority(self, without: Set[int] = NOBODY) -> int | None:
        """The least of all who wait, but those of the tenants `without`."""
        tenants = self._others(without)
        return int(self._firsts[0, tenants].min()) if len(tenants) else None

    def first(self, without: Set[int] = NOBODY) -> Request | None:
        tenants = self._others(without)
        if len(tenants) > 1:
            priority, *order = self._firsts[:, tenants]
            aged = np.maximum(self._aged(priority, order[1]), priority.min())
            tenants = tenants[least(aged, *self._standing(tenants), *order)]
        return self._lines[int(tenants[0])].requests[0] if len(tenants) else None

    def _others(self, without: Set[int]) -> Longs:
        """Who has a line."""
        tenants: Longs = (self._firsts[0] < np.inf).nonzero()[0]
        return tenants[~np.isin(tenants, list(without))] if without else tenants

    def _note(self, tenant: int, num_tokens: int) -> None:
        """Its line has changed by so many tokens."""
        if (more := 2 * tenant - len(self._tokens)) > 0:
            self._firsts = np.pad(self._firsts, ((0, 0), (0, more)), constant_values=np.inf)
            self._tokens = np.pad(self._tokens, (0, more))
        self._tokens[tenant] += num_tokens
        first = self.first_of(tenant)
        self._firsts[:, tenant] = np.inf if first is None else (first.priority, *first.order)

    def discard(self, request: Request) -> None:
        """Take the request out, if it waits."""
        line = self._lines.get(request.tenant)
        if line is None or not line.discard(request):
            return
        if not line.requests:
            del self._lines[request.tenant]
        self._note(request.tenant, -len(request.token_ids))
        self._count -= 1

    def take_all(self) -> list[Request]:
        """Everybody; nobody is left."""
        requests = [one for line in self._lines.values() for one in line.requests]
        self._lines.clear()
        self._firsts[:], self._tokens[:] = np.inf, 0.0
        self._count = 0
        return requests

    def extend(self, request: Request, token_id: np.int32) -> None:
        """An id arrives that was in flight when the request lost its slot."""
        request.token_ids = np.append(request.token_ids, token_id)
        if not request.is_held:
            self._tokens[request.tenant] += 1


def least(*keys: Floats) -> Longs:
    """int64[m]: where float64[n] `keys` are least, the first of them first."""
    left: Longs = np.arange(len(keys[0]))
    for key in keys:
        values = key[left]
        left = left[values == values.min()]
    return left
