"""TenantCounts: what each API key has had, for Prometheus; and each tenant, for the live page.

Labels are names of keys, which are the operator's. Where there are no keys a tenant is whom a
client names as its user, and all of them are counted together: no client can make a series.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator

import numpy as np
from prometheus_client.metrics_core import Metric

from octavo.services.scheduler.families import Labels, counter_by
from octavo.services.scheduler.slots import Longs

MAX_KEYS = 100
"""With series of their own, those that come first."""
OTHERS = "(others)"
NO_KEY = "(none)"
COUNTERS = {
    "tokens": "Tokens generated, by API key.",
    "requests": "Requests ended, by API key.",
    "queue_seconds": "Seconds that requests waited for a slot, by API key.",
}


class TenantCounts:
    """Tenants are known by their numbers (`tenants`), which are used again."""

    def __init__(self) -> None:
        self._counts = {name: collections.Counter[str]() for name in COUNTERS}
        self._keys: set[str] = set()
        self._who: list[tuple[str, str]] = []
        """(tenant, label) by number."""
        self._fresh = np.zeros(16, np.int64)
        """Tokens by number that are not in the label's count yet."""
        self._had = np.zeros(16, np.int64)
        """Those that are, since the tenant has had the number."""
        self._begin(NO_KEY)

    def join(self, number: int, tenant: str, key: str | None) -> None:
        """A request of this tenant has come, with this key."""
        while number >= len(self._who):
            self._who.append(("", NO_KEY))
        who = (tenant, self._label(key))
        if self._who[number] == who:
            return
        self._settle()
        if number >= len(self._fresh):
            self._fresh = np.pad(self._fresh, (0, number))
            self._had = np.pad(self._had, (0, number))
        self._who[number], self._had[number] = who, 0

    def _label(self, key: str | None) -> str:
        if key is None:
            return NO_KEY
        if key not in self._keys and len(self._keys) >= MAX_KEYS:
            return OTHERS
        if key not in self._keys:
            self._keys.add(key)
            self._begin(key)
        return key

    def _begin(self, label: str) -> None:
        """At zero, so that the first tokens are a rise."""
        for counts in self._counts.values():
            counts[label] += 0

    def on_tokens(self, numbers: Longs) -> None:
        """int64[n]: whose a step's tokens are."""
        self._fresh += np.bincount(numbers, minlength=len(self._fresh))

    def on_admission(self, number: int, waited: float) -> None:
        self._counts["queue_seconds"][self._who[number][1]] += waited  # type: ignore[assignment]

    def on_end(self, number: int) -> None:
        self._counts["requests"][self._who[number][1]] += 1

    def had(self, number: int) -> int:
        """Tokens of a tenant that is here."""
        return int(self._had[number] + self._fresh[number])

    def _settle(self) -> None:
        for number in self._fresh.nonzero()[0].tolist():
            self._counts["tokens"][self._who[number][1]] += int(self._fresh[number])
        self._had += self._fresh
        self._fresh[:] = 0

    def families(self, labels: Labels) -> Iterator[Metric]:
        self._settle()
        for name, text in COUNTERS.items():
            yield counter_by(f"octavo:tenant_{name}", text, labels, "tenant", self._counts[name])
