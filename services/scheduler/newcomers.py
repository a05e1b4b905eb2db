"""Newcomers: requests of which nothing has begun, so that they could still be refused.

A client's request may be several sequences, of which it has one answer. Once one of them has had a
slot, something may have been sent, and none of them is a newcomer any more.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from octavo.services.scheduler.request import Request
from octavo.services.scheduler.tenants import Tenants
from octavo.services.scheduler.waiting import Line


@dataclass
class Family:
    """`members`: that have come and not ended."""

    members: dict[Request, None] = field(default_factory=dict)
    begun: bool = False


class Newcomers:
    """A line for each tenant, in the order in which they would begin."""

    def __init__(self, tenants: Tenants) -> None:
        self._tenants = tenants
        self._lines: dict[int, Line] = {}
        self._families: dict[bytes, Family] = {}

    def add(self, request: Request) -> None:
        """It has come, and waits."""
        if request.family:
            family = self._families.setdefault(request.family, Family())
            family.members[request] = None
            if family.begun:
                return
        self._lines.setdefault(request.tenant, Line()).add(request)
        self._count(request, 1)

    def begin(self, request: Request) -> None:
        """It has a slot, not necessarily for the first time."""
        self._discard(request)
        family = self._families.get(request.family)
        if family is not None and not family.begun:
            family.begun = True
            for one in family.members:
                self._discard(one)

    def leave(self, request: Request) -> None:
        """It has ended, whether or not it was ever here."""
        self._discard(request)
        if (family := self._families.get(request.family)) is not None:
            family.members.pop(request, None)
            if not family.members:
                del self._families[request.family]

    def take_last(self, tenant: int) -> list[Request]:
        """Who would begin last, with all that are answered together; they are here no more."""
        request = self._lines[tenant].requests[-1]
        family = self._families.get(request.family)
        taken = [request] if family is None else list(family.members)
        for one in taken:
            self._discard(one)
        return taken

    def _discard(self, request: Request) -> None:
        line = self._lines.get(request.tenant)
        if line is None or not line.discard(request):
            return
        self._count(request, -1)
        if not line.requests:
            del self._lines[request.tenant]

    def _count(self, request: Request, sign: int) -> None:
        fresh, tenant = self._tenants.fresh, request.tenant
        fresh[0, tenant] += sign
        fresh[1, tenant] += sign * request.prompt_len
