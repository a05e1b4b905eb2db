"""Trials: which of the requests that ran when a step failed was it?

A step that fails, or kills its worker, has harmed nobody yet: all is computed again. But a request
that does so every time would end the server. So those that were in the failed step run again a
group at a time, and meanwhile nobody else does: whatever goes wrong is the group's. A group whose
members all get a little further than where they were is acquitted; one that fails again is split;
and who fails alone is convicted. That takes some steps; to the others it is a pause.

A worker's death is put on trial at the second time only, for most deaths are nobody's fault. Groups
are eighths, not halves: of 512 requests, the one is found in three more deaths.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence

from octavo.services.scheduler.request import Request

PARTS = 8
ACQUITTED_AFTER = 2
"""Tokens more than at the failure: a prompt's pass, and a step of decoding."""


class Trials:
    """`length`: how many tokens of a request there are now."""

    def __init__(self, length: Callable[[Request], int]) -> None:
        self._length = length
        self._groups: collections.deque[list[Request]] = collections.deque()
        self._on_trial: dict[Request, int] = {}
        """And the lengths that acquit."""
        self._bystanders: dict[Request, None] = {}

    @property
    def active(self) -> bool:
        return bool(self._on_trial or self._groups or self._bystanders)

    def held(self) -> list[Request]:
        """Requests that may not run now."""
        return [*(one for group in self._groups for one in group), *self._bystanders]

    def must_wait(self, request: Request) -> bool:
        """Take note of a request that could run; True: not now."""
        if not self.active or request in self._on_trial:
            return False
        if not request.is_held:
            self._bystanders[request] = None
            request.is_held = True
        return True

    def accuse(self, accused: Sequence[Request], died: bool) -> Request | None:
        """A step of these requests has failed, `died`: and its worker with it.

        Returns the one that is convicted. The others run when `release` says so.
        """
        for one in accused:
            one.num_failures += 1
        before, self._on_trial = self._on_trial, {}
        if len(accused) == 1 and accused[0] in before:
            return accused[0]
        self._hold([one for one in before if one not in accused])
        self._split([one for one in accused if one in before or one.num_failures > died])
        return None

    def is_decided(self) -> bool:
        """Whether all on trial have got further, or ended."""
        return all(
            one.over or self._length(one) >= enough for one, enough in self._on_trial.items()
        )

    def go_on(self) -> tuple[list[Request], list[Request]]:
        """Acquit those on trial. Returns them, and who may run next: all, if that was the last."""
        acquitted = list(self._on_trial)
        for one in self._on_trial:
            one.num_failures = 0
        group = self._groups.popleft() if self._groups else []
        self._on_trial = {one: self._length(one) + ACQUITTED_AFTER for one in group}
        if not group:
            group, self._bystanders = list(self._bystanders), {}
        for one in group:
            one.is_held = False
        return acquitted, group

    def leave(self, request: Request) -> None:
        """A request has ended, wherever it stood."""
        if not request.is_held:
            return
        request.is_held = False
        self._bystanders.pop(request, None)
        self._groups = collections.deque(
            kept for group in self._groups if (kept := [one for one in group if one is not request])
        )

    def _split(self, group: Sequence[Request]) -> None:
        size = -(-len(group) // PARTS) or 1
        for start in reversed(range(0, len(group), size)):
            self._hold(group[start : start + size])

    def _hold(self, group: Sequence[Request]) -> None:
        held = [one for one in group if not one.over]
        for one in held:
            one.is_held = True
        if held:
            self._groups.appendleft(held)
