"""Backlog: who has no slot, wherever it waits, and with how many tokens, by tenant.

Each arrival asks, also where thousands wait in three places: so it is counted, not summed.
"""

from __future__ import annotations

from octavo.services.scheduler.request import Request
from octavo.services.scheduler.tenants import Tenants


class Backlog:
    def __init__(self, tenants: Tenants) -> None:
        self._tenants = tenants
        self._lengths: dict[Request, int] = {}
        """As they have been counted."""
        self.num_tokens = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def note(self, request: Request) -> None:
        """It waits, with the tokens that it has now."""
        length = len(request.token_ids)
        self._count(request, length - self._lengths.get(request, 0))
        self._lengths[request] = length

    def discard(self, request: Request) -> None:
        """It waits no more, if it did."""
        self._count(request, -self._lengths.pop(request, 0))

    def _count(self, request: Request, more: int) -> None:
        self.num_tokens += more
        self._tenants.queue[1, request.tenant] += more
