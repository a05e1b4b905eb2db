"""Tenants: who has had how much, so that none is starved by another's requests.

Each tenant with requests here has a counter of the tokens computed for it; who has had least is
admitted next (the virtual token counter of Sheng et al., "Fairness in Serving Large Language
Models", 2024). One that comes back starts level with the others: what it did not use is not saved
up. Where all slots are taken, a tenant with more than its share gives up its latest. Shares are
even, or as the weights of the tenants' keys are.
"""

from __future__ import annotations

import numpy as np

from octavo.services.scheduler.slots import Longs

ROW_COST = 1
"""Tokens' worth of a row in a step, beside its tokens: one that decodes costs two."""


class Tenants:
    """Numbers stand for names while a tenant has requests; they are used again then."""

    def __init__(self, num_slots: int) -> None:
        self._num_slots = num_slots
        self._numbers: dict[str, int] = {}
        self._counters: dict[int, float] = {}
        self._requests: dict[int, int] = {}
        self._running: dict[int, int] = {}
        self._weights: dict[int, float] = {}
        self._vacant: list[int] = []
        self._over: frozenset[int] | None = None
        self._names: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def join(self, name: str, weight: float = 1.0) -> int:
        """A request of this tenant has come; returns the tenant's number."""
        number = self._numbers.get(name)
        if number is None:
            number = self._vacant.pop() if self._vacant else len(self._numbers)
            self._numbers[name], self._names[number] = number, name
            self._counters[number] = min(self._counters.values(), default=0.0)
            self._requests[number] = self._running[number] = 0
        self._requests[number] += 1
        self._over = None
        self._weights[number] = weight
        return number

    def leave(self, number: int) -> None:
        """A request of it has ended; after its last one it is forgotten."""
        self._requests[number] -= 1
        self._over = None
        if not self._requests[number]:
            del self._numbers[self._names.pop(number)]
            for column in (self._counters, self._requests, self._running, self._weights):
                del column[number]
            self._vacant.append(number)

    def seat(self, number: int, change: int) -> None:
        """A request of it takes (1) or gives up (-1) a slot."""
        self._running[number] += change
        self._over = None

    def over(self) -> frozenset[int]:
        """Tenants with more of the running requests than their share."""
        if self._over is None:
            mean = sum(self._running.values()) / (sum(self._weights.values()) or 1)
            over = (one for one, rows in self._running.items() if rows > mean * self._weights[one])
            self._over = frozenset(over) if len(self._numbers) > 1 else frozenset()
        return self._over

    def charge(self, numbers: Longs, num_tokens: Longs) -> None:
        """A step computes num_tokens int64[n] for rows of the tenants int64[n]."""
        if len(self._numbers) < 2:
            return
        costs = np.bincount(numbers, weights=num_tokens + ROW_COST)
        for number in costs.nonzero()[0].tolist():
            self._counters[number] += float(costs[number]) / self._weights[number]

    def name(self, number: int) -> str:
        """Of a tenant with requests."""
        return self._names.get(number, "")

    def had(self, number: int) -> float:
        """The counter."""
        return self._counters[number]

    def owes(self, rich: int, poor: int) -> bool:
        """Whether one has more slots than its share and the other would still have no more."""
        running, share = self._running, self._share
        return running[rich] > share(rich) and running[poor] < share(poor)

    def _share(self, number: int) -> int:
        """Slots."""
        return int(self._num_slots * self._weights[number] / sum(self._weights.values()))

    def is_owed(self, poor: int) -> bool:
        return len(self._numbers) > 1 and any(self.owes(rich, poor) for rich in self._running)
