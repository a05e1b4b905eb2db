"""Tenants: who has had how much, so that none is starved by another's requests.

Each tenant with requests here has a counter of the tokens computed for it; who has had least is
admitted next (the virtual token counter of Sheng et al., "Fairness in Serving Large Language
Models", 2024). One that comes back starts level with the others: what it did not use is not saved
up. Where slots or blocks are short, a tenant with more than its share of either gives up its
latest. Shares are even, or as the weights of the tenants' keys are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from octavo.services.scheduler.slots import Longs
from octavo.shared.keys import Quota

Floats = npt.NDArray[np.float64]

ROW_COST = 1
"""Tokens' worth of a row in a step, beside its tokens: one that decodes costs two."""
MEMORY = 2.0
"""Seconds in which what a tenant has had lately fades to a third."""
BURST = 1.25
"""Times its share that a tenant may have had lately without being over it."""
NOBODY: frozenset[int] = frozenset()


class Tenants:
    """Numbers stand for names while a tenant has requests; they are used again then.

    Columns are indexed by number. `weight`: 0 for a number that nobody has.
    """

    def __init__(self, num_slots: int, num_blocks: int) -> None:
        self._capacity = np.array([[num_slots], [num_blocks]])
        self._numbers: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._vacant: list[int] = []
        self._charged = 0.0
        self._resize(8)

    def _resize(self, size: int) -> None:
        def column(name: str, *shape: int) -> Floats:
            grown = np.zeros((*shape, size))
            if (old := getattr(self, name, None)) is not None:
                grown[..., : old.shape[-1]] = old
            return grown

        self.counter, self.weight = column("counter"), column("weight")
        self.lately = column("lately")
        self.seats = column("seats", 2)
        """[2, tenants]: slots and blocks."""
        self.queue = column("queue", 2)
        """[2, tenants]: requests, and tokens of those that wait."""
        self.fresh = column("fresh", 2)
        """[2, tenants]: what of that is of requests of which nothing has begun (`newcomers`)."""
        self._share: Floats | None = None

    def __len__(self) -> int:
        return len(self._numbers)

    def join(self, name: str, weight: float = 1.0) -> int:
        """A request of this tenant has come; returns the tenant's number."""
        if (number := self._numbers.get(name)) is None:
            number = self._enter(name)
        self.queue[0, number] += 1
        self.weight[number] = weight
        self._share = None
        return number

    def _enter(self, name: str) -> int:
        number = self._vacant.pop() if self._vacant else len(self._numbers)
        if number == len(self.counter):
            self._resize(2 * number)
        present = self.counter[self.weight > 0]
        self.counter[number] = present.min() if len(present) else 0.0
        self._numbers[name], self._names[number] = number, name
        return number

    def leave(self, number: int) -> None:
        """A request of it has ended; after its last one it is forgotten."""
        self.queue[0, number] -= 1
        self._share = None
        if not self.queue[0, number]:
            del self._numbers[self._names.pop(number)]
            for column in (self.counter, self.lately, self.weight):
                column[number] = 0.0
            for columns in (self.seats, self.queue, self.fresh):
                columns[:, number] = 0.0
            self._vacant.append(number)

    def seat(self, number: int, slots: int, blocks: int) -> None:
        """A request of it takes so many, or gives them up (negative)."""
        self.seats[0, number] += slots
        self.seats[1, number] += blocks

    def over(self, wanted: Floats) -> frozenset[int]:
        """Tenants that have had more than their share of what was computed lately, and of
        float64[tenants] `wanted`, the tokens that they want computed now."""
        if len(self._numbers) < 2:
            return NOBODY
        cost = self.lately + wanted
        share = self.weight * (cost.sum() / self.weight.sum())
        return frozenset(np.flatnonzero(cost > BURST * share).tolist())

    def charge(self, numbers: Longs, num_tokens: Longs, now: float) -> None:
        """A step computes num_tokens int64[n] for rows of the tenants int64[n]."""
        costs = np.bincount(numbers, num_tokens + ROW_COST, len(self.counter))
        self._fade(now)
        self.lately += costs
        paying = costs.nonzero()[0]
        self.counter[paying] += costs[paying] / self.weight[paying]

    def charge_only(self, rows: int, num_tokens: int, now: float) -> None:
        """The same where there is but one tenant, who need not be compared."""
        self._fade(now)
        for number in self._numbers.values():
            self.lately[number] += num_tokens + ROW_COST * rows

    def _fade(self, now: float) -> None:
        self.lately *= math.exp((self._charged - now) / MEMORY)
        self._charged = now

    def number(self, name: str) -> int | None:
        """None: it has no requests."""
        return self._numbers.get(name)

    def name(self, number: int) -> str:
        """Of a tenant with requests."""
        return self._names.get(number, "")

    def present(self) -> Iterator[tuple[int, str, int, int]]:
        """(number, name, requests, running ones among them) of each."""
        requests, running = self.queue[0].tolist(), self.seats[0].tolist()
        for number, name in self._names.items():
            yield number, name, int(requests[number]), int(running[number])

    def had(self, number: int) -> float:
        """The counter."""
        return float(self.counter[number])

    def excess(self, number: int) -> float:
        """How many times its share of slots or blocks it has, whichever is more; at least 1."""
        return max(1.0, float((self.seats[:, number] / self._shares()[:, number]).max()))

    def may_take(self, number: int, blocks: int) -> bool:
        """Whether one more slot, and so many blocks, would still be within its share."""
        share = self._shares()[:, number]
        return bool((self.seats[:, number] + (1, blocks) <= share).all())

    def may_lose(self, number: int, blocks: int) -> bool:
        """Whether without one of its slots, or so many blocks, it would still have its share."""
        share = self._shares()[:, number]
        return bool((self.seats[:, number] - (1, blocks) >= share).any())

    def any_rich(self) -> bool:
        """Whether any has more than its share of slots or blocks."""
        return len(self._numbers) > 1 and bool((self.seats > self._shares()).any())

    def _shares(self) -> Floats:
        """float64[2, tenants]: of slots and blocks, whole ones."""
        if self._share is None:
            self._share = parts(self._capacity, self.weight, float(self.weight.sum()) or 1.0)
        return self._share


def parts(amount: float | Floats, weight: Floats, total: float) -> Floats:
    """Of so much, what each has by its weight of the total: a whole number, and at least 1."""
    share: Floats = np.maximum(amount * weight // total, 1.0)
    return share


def weight_of(quota: Quota | None) -> float:
    """Of a tenant whose request came with it."""
    return 1.0 if quota is None else quota.weight
